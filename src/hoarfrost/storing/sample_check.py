"""Whether samples still have the bytes that a cache was built from: some at once, others while epochs are trained."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch

from ..augment import forked_random_states
from ..cache import Cache
from ..errors import HoarfrostError
from ..samples import Look, Order, Samples, digests_from, same_input
from ..threads import torch_ready

__all__ = ["SampleCheck"]

AT_ONCE = 16
"""Samples, drawn anew each time, that are read when a cache is opened."""

SUSPECTS_AT_ONCE = 64
"""Samples with younger files than the cache that are; if there are more, the rest follows in the epochs."""

SHARE = 64
"""Of so many samples one is read in the epochs, where a change of the others would have shown without reading."""

TOGETHER = 8
"""Samples read between two looks at whether the epoch is over."""


class SampleCheck:
    """Reads samples again and compares digests of their bytes with those in the journal of a cache that stands.

    Which samples is drawn from the system's randomness: what one run passes over the next may find. Files that changed
    behind the cache come first, and where times differ, or a change would not show without reading, all are gone
    through, in as many epochs as that takes.

    Args:
        look: what was seen of the samples when the cache was compared.
    """

    def __init__(self, cache: Cache, samples: Samples, order: Order, look: Look) -> None:
        self._samples = samples
        self._known: dict[int, bytes] = {}
        for chunk in range(order.chunks):
            ids = order.members(chunk).tolist()
            told = cache.digests(chunk)
            digests = None if told is None else digests_from(told, len(ids))
            self._known |= {} if digests is None else dict(zip(ids, digests, strict=True))
        drawing = random.SystemRandom()
        suspects = [number for number in look.younger(cache.built) if number in self._known]
        drawing.shuffle(suspects)
        others = list(self._known.keys() - set(suspects))
        drawing.shuffle(others)
        times_differ = look.noted_times != cache.fingerprint.noted.get("times")
        if samples.identity.known and not times_differ:
            others = others[: max(AT_ONCE, len(others) // SHARE)]
        at_once = suspects[:SUSPECTS_AT_ONCE], others[:AT_ONCE]
        self._first = [number for part in at_once for number in part]
        self._rest = deque(suspects[SUSPECTS_AT_ONCE:] + others[AT_ONCE:])
        self._found: dict[str, str] = {}
        self.read = 0
        """Samples that were compared so far."""
        self.mismatch = ""
        """What is not as it was, in words; "" so far."""
        self.alone = threading.Lock()
        """Held while the thread reads: data sets need not bear two readers."""
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._told = -1

    def at_once(self) -> dict[str, str]:
        """What is stale by the samples that are read now: a field, and the difference in words."""
        with forked_random_states():
            before = _random_states()
            self._found = self._found | self._compare(self._first)
            if before != _random_states():
                self._rest.clear()  # what draws while it reads would draw from the training's own random states
        self._first = []
        return self._found

    def begin(self) -> None:
        """Go on in a thread while the epoch lasts; `end` ends it."""
        if self._rest and self._thread is None:
            torch_ready()
            self._over.clear()
            self._thread = threading.Thread(target=self._run, name="hoarfrost-check", daemon=True)
            self._thread.start()

    def end(self) -> bool:
        """The epoch is over: the next one goes on. Whether more was read by now than was known of."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        news, self._told = self.read > self._told, self.read
        return news

    def taken(self) -> str:
        """The mismatch that was found, once; "" where there is none."""
        told, self.mismatch = self.mismatch, ""
        return told

    def _run(self) -> None:
        while self._rest and not self._over.is_set():
            ids = [self._rest.popleft() for _ in range(min(TOGETHER, len(self._rest)))]
            try:
                with self.alone:
                    found = self._compare(ids)
            except Exception:  # a sample that cannot be read is met where it is needed
                return
            if found:
                self.mismatch = "; ".join(found.values())
                self._rest.clear()

    def _compare(self, ids: Sequence[int]) -> dict[str, str]:
        if not ids:
            return {}
        found: dict[str, str] = {}
        for number in ids:
            try:
                (now,) = self._samples.read_digests([number])
            except HoarfrostError:  # one that cannot be read is met where it is needed
                continue
            was = self._known[number]
            self.read += 1
            if not same_input(now, was):
                found.setdefault(
                    "data", f"'data': sample {number} is another than the one that the cache was built from"
                )
            elif now != was:
                name = "targets" if self._samples.form.pair else "data"
                found.setdefault(name, f"'{name}': what sample {number} has beside its input is not what was cached")
        return found


def _random_states() -> tuple[bytes, str, str]:
    """The process's own."""
    return torch.get_rng_state().numpy().tobytes(), str(random.getstate()), str(np.random.get_state())
