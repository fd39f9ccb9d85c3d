"""Where features are stored: built within the disk budget, found again, dropped when deeper ones stand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from .cache import Cache, CacheSpec, CacheWriter, Fingerprint, hash_tensors
from .calibration import Calibration
from .cuts import Cut
from .errors import BudgetError, CacheDirectoryError, CorruptChunkError, StaleCacheError
from .loading import Order
from .renditions import Deriver, Renditions, Way, dense, to_store
from .samples import Frame, Samples
from .sources import PrefixSource
from .views import Views

__all__ = ["Division", "Storage", "way_of"]

WRITES_AHEAD = 4
"""Chunks that may wait to be encoded while the prefix computes the next; bounds the memory of a build."""


@dataclass(frozen=True)
class Division:
    """A model divided at a frozen cut.

    Attributes:
        event: the epoch before which it was frozen; the stored views' random decisions belong to it.
        twins: modules of the suffix, each with the module of the model that it stands for.
    """

    cut: Cut
    prefix: nn.Module
    suffix: nn.Module
    event: int
    twins: tuple[tuple[nn.Module, nn.Module], ...]


class Storage:
    """The caches of one run in its directory: those being read, and the shallower cut's while deeper ones are built.

    Args:
        budget: bytes that all of them may take; None: no limit.
    """

    def __init__(
        self,
        directory: Path,
        budget: int | None,
        *,
        samples: Samples,
        order: Order,
        renditions: Renditions,
        views: Views,
        frame: Frame | None,
        device: torch.device,
    ) -> None:
        self._directory, self._budget = directory, budget
        self._samples, self._order, self._renditions = samples, order, renditions
        self._views, self._frame, self._device = views, frame, device
        self.caches: tuple[Cache, ...] = ()
        """One for each tensor that crosses the cut; none when recomputing."""
        self._previous: tuple[Cache, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes on disk of what is being read."""
        return sum(cache.nbytes for cache in self.caches)

    @property
    def vanished(self) -> bool:
        """Whether a cache that is being read is no longer on disk."""
        return not all(cache.path.is_dir() for cache in self.caches)

    def deriver(self, cut: Cut, way: Way, source: PrefixSource) -> Deriver | None:
        """What makes features of one rendition from another's; None where features or images allow none."""
        return Deriver.of(cut, self._samples, self._order, self._frame, way, source.blank)

    def set_aside(self) -> None:
        """The caches belong to a shallower cut from now on; `drop_previous` removes them."""
        self._previous, self.caches = self.caches, ()

    def store(self, division: Division, calibration: Calibration, source: PrefixSource) -> str:
        """Build the caches of a division, or find them built; what had to be left out for it, in words.

        What was predicted from a sample can turn out too small: then a view less is tried.

        Raises:
            BudgetError: not even one view fits.
            CacheDirectoryError, CacheBusyError: nothing can be written, or another run is writing the same.
        """
        specs = [calibration.spec, *(other.spec for other in calibration.beside)]
        count, note = self._within_budget(calibration, division.cut.label)
        first = ""
        while True:
            if self._previous and self._room(count, calibration) < 0:
                first = "the earlier features were removed first, since there was no room for both"
                self.drop_previous()
            fewer = [replace(spec, stored=spec.stored[:count]) for spec in specs]
            try:
                self.caches = self._stored(division, fewer, calibration, source)
                return "; ".join(filter(None, (note, first)))
            except BudgetError:
                if self._previous:
                    first = "the earlier features were removed, since there was no room for both"
                    self.drop_previous()
                    continue
                count -= 1
                if not count:
                    raise
                note = f"{count} of {len(calibration.spec.stored)} views, for more there was no room"

    def _room(self, views: int, calibration: Calibration) -> float:
        """Bytes of the disk budget that would be left beside the earlier features and so many views."""
        if self._budget is None:
            return math.inf
        needed = calibration.predicted_bytes * views / len(calibration.spec.stored)
        return self._budget - sum(cache.nbytes for cache in self._previous) - needed

    def drop_previous(self) -> None:
        """Remove the features of the shallower cut."""
        for cache in self._previous:
            if cache.path not in [kept.path for kept in self.caches]:
                cache.drop()
        self._previous = ()

    def reopen(self, division: Division, digests: Sequence[str]) -> bool:
        """Go on with the caches of an earlier process; False if one is gone or was made from something else."""
        if len(digests) != len(division.cut.tensors):
            return False
        found = []
        try:
            for tensor, digest in enumerate(digests):
                cache = Cache.open(self._directory / digest[:16])
                found.append(Cache.open(cache.path, self._fingerprint(division, cache.spec, way_of(cache), tensor)))
        except (StaleCacheError, CorruptChunkError) as error:
            warnings.warn(f"hoarfrost builds the cache again: {error}", stacklevel=2)
            return False
        except CacheDirectoryError:
            return False
        self.caches = tuple(found)
        return True

    def _within_budget(self, calibration: Calibration, label: str) -> tuple[int, str]:
        """How many views can be stored under the disk budget.

        Raises:
            BudgetError: not even one view fits.
        """
        spec, needed, budget = calibration.spec, calibration.predicted_bytes, self._budget
        if budget is None or needed <= budget:
            return len(spec.stored), ""
        one = calibration.view_bytes
        if one > budget:
            raise BudgetError(
                f"the disk budget is {budget:,} bytes, one view of {self._order.samples:,} samples at cut {label!r} "
                f"needs about {one:,} at the strongest rung that does no harm; a deeper cut or a larger budget would do"
            )
        count = next(n for n in range(len(spec.stored) - 1, 0, -1) if n == 1 or needed * n / len(spec.stored) <= budget)
        note = f"{count} of {len(spec.stored)} views, to stay within the disk budget of {budget:,} bytes"
        return count, note

    def _stored(
        self, division: Division, specs: Sequence[CacheSpec], calibration: Calibration, source: PrefixSource
    ) -> tuple[Cache, ...]:
        """The caches of this division: identical ones that stand already, and new ones."""
        standing: dict[int, Cache] = {}
        writers: dict[int, CacheWriter] = {}
        shares = self._shares(calibration)
        try:
            for tensor, spec in enumerate(specs):
                fingerprint = self._fingerprint(division, spec, calibration.way, tensor)
                try:
                    standing[tensor] = Cache.open(self._directory / fingerprint.key, fingerprint)
                    continue
                except CacheDirectoryError:
                    pass  # there is none yet
                except CorruptChunkError as error:
                    warnings.warn(f"hoarfrost builds the cache again: {error}", stacklevel=2)
                writers[tensor] = Cache.create(self._directory, fingerprint, spec, budget_bytes=shares[tensor])
            if writers:
                deriver = self.deriver(division.cut, calibration.way, source)
                self._fill(writers, division, specs, source, deriver)
            # One after the other: a crash in between leaves whole caches, and the build of the others goes on.
            whole = self._views.record == "ahead"
            return tuple(standing[n] if n in standing else writers[n].commit(whole=whole) for n in range(len(specs)))
        except Exception:
            for writer in writers.values():
                writer.abort()
            raise

    def shares_left(self) -> tuple[int | None, ...]:
        """What each of the caches may take at most of the disk budget, while views are drawn anew."""
        if self._budget is None:
            return (None,) * len(self.caches)
        room = max(0, self._budget - self.nbytes)
        return tuple(cache.nbytes + room // len(self.caches) for cache in self.caches)

    def _shares(self, calibration: Calibration) -> list[int | None]:
        """What the earlier features leave of the disk budget, divided between the tensors as their bytes will be."""
        if self._budget is None:
            return [None] * (1 + len(calibration.beside))
        budget = max(0, self._budget - sum(cache.nbytes for cache in self._previous))
        if not calibration.beside:
            return [budget]
        others = [round(other.bytes_per_sample * self._order.samples) for other in calibration.beside]
        sizes = [calibration.view_bytes - sum(others), *others]
        return [budget * size // max(1, calibration.view_bytes) for size in sizes]

    def _fill(
        self,
        writers: Mapping[int, CacheWriter],
        division: Division,
        specs: Sequence[CacheSpec],
        source: PrefixSource,
        deriver: Deriver | None,
    ) -> None:
        """One pass of the prefix for each view; a thread encodes and writes what the prefix has computed.

        What is recorded while epochs show it begins with a single record, which says what the targets are.
        """
        views, chunks = (specs[0].views, self._order.chunks) if self._views.record == "ahead" else (1, 1)
        with ThreadPoolExecutor(1, "hoarfrost-write") as writing:
            pending: list[Future[int]] = []
            first = self._renditions.view(division.event, 0, base=self._views.base)
            for view in range(views):
                draw = self._renditions.view(division.event, view, base=self._views.base)
                todo = [
                    chunk
                    for chunk in range(chunks)
                    if any((chunk, view) not in writer.done for writer in writers.values())
                ]
                members = [self._order.members(chunk) for chunk in todo]
                rendered = self._samples.stream(members, draw)
                for chunk, ids, (images, targets) in zip(todo, members, rendered, strict=True):
                    tensors = source.run(images)
                    for number, writer in writers.items():
                        if (chunk, view) in writer.done:
                            continue
                        stored, derived = specs[number].stored[view], None
                        if stored.gains is not None and deriver is not None:
                            base = dense(writer.packed(chunk, 0), specs[number])
                            derived = deriver.derive(base, chunk, first, draw)
                        features = to_store(stored, specs[number].channel_axis, tensors[number], derived)
                        if len(pending) >= WRITES_AHEAD:
                            pending.pop(0).result()
                        pending.append(writing.submit(writer.append, chunk, view, ids, targets, features))
                # A further view may be stored as its difference to the base view: that one is written by then.
                while pending:
                    pending.pop(0).result()

    def _fingerprint(self, division: Division, spec: CacheSpec, way: Way, tensor: int = 0) -> Fingerprint:
        crossing = division.cut.tensors[tensor]
        which = {"tensor": {"source": str(crossing.source), "number": crossing.number}} if tensor else {}
        return Fingerprint(
            {
                **which,
                "prefix": hash_tensors(division.prefix.state_dict()),
                "cut": division.cut.label,
                "samples": len(self._samples),
                "data": self._samples.identity,
                "transform": self._samples.pipeline.to_config(),
                "order": {"seed": self._order.seed, "chunk_size": self._order.chunk_size},
                "views": {
                    "event": division.event if self._samples.pipeline.is_random else 0,
                    "base": self._views.base,
                    "border": way.border,
                    "form": way.form,
                    "stored": [view.to_config() for view in spec.stored],
                },
                "codec": spec.codec.to_config(),
                "precision": {
                    "dtype": str(spec.dtype),
                    "autocast": torch.is_autocast_enabled(self._device.type),
                    "device": self._device.type,
                    "channels_last": spec.channels_last,
                },
            }
        )


def way_of(cache: Cache) -> Way:
    """How the cache's derived views are made."""
    views = cache.fingerprint.fields["views"]
    return Way(views["border"], views["form"])
