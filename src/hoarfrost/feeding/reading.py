"""An epoch's features as they are read, tensor by tensor of what crosses the cut: for one training, or for several."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from ..cache import CacheSpec
from ..samples import Order, PrefixSource, TrainingData
from .cache_source import CacheSource
from .loading import feature_batches
from .window import Batch

__all__ = ["Reading", "SharedReadings", "order_key", "read"]

Reading = Generator[tuple[Batch, ...], None, None]


def read(
    sources: Sequence[tuple[PrefixSource | CacheSource, CacheSpec]], data: TrainingData, epoch: int, start: int
) -> Reading:
    """The epoch's batches from one on; the order is a pure function of seed and epoch, so that the tensors of one batch
    belong together."""
    for source, _ in sources:
        if isinstance(source, CacheSource):
            source.begin()
            source.expect(epoch)
    place = data.on_device.device
    device, bounds = None if place.type == "cpu" else place, data.bounds(epoch)
    today = data.samples.targets_now
    columns = [
        feature_batches(
            *(source, data.order, spec, epoch, data.batch_size),
            start=start,
            device=device,
            bounds=bounds,
            targets=today if isinstance(source, CacheSource) else None,
        )
        for source, spec in sources
    ]
    with ExitStack() as reading:
        for column in columns:
            reading.callback(column.close)
        yield from zip(*columns, strict=True)


def order_key(order: Order, bounds: Sequence[tuple[int, int]], epoch: int) -> str:
    """Equal where an epoch shows the same rows of the same chunks in the same batches."""
    seen = hashlib.sha256(repr((order.samples, order.seed, order.chunk_size, epoch, list(bounds))).encode())
    for chunks, rows in order.windows(epoch):
        seen.update(repr(chunks).encode())
        seen.update(rows.numpy().tobytes())
    return seen.hexdigest()


class SharedReadings:
    """Reads once what several trainings, a batch at a time and in turn, read of the same caches in the same order."""

    def __init__(self) -> None:
        self._open: dict[Any, _Shared] = {}

    def take(self, key: Any, begin: Callable[[], Reading]) -> Reading:
        """What `begin` reads; with whoever took the same key and has not read on since.

        Args:
            key: equal for readings that give the same.
        """
        shared = self._open.get(key)
        if shared is None or shared.taken > 1:
            shared = self._open[key] = _Shared(begin())
        shared.readers += 1
        try:
            yield from shared.batches()
        finally:
            shared.readers -= 1
            if not shared.readers:
                shared.reading.close()
                if self._open.get(key) is shared:
                    del self._open[key]


class _Shared:
    """One reading.

    Attributes:
        taken: batches so far.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.readers = self.taken = 0
        self._last: tuple[Batch, ...] | None = None

    def batches(self) -> Reading:
        """For one of the readers; its features are its own, as a layer that works in place would write into others'."""
        for number in itertools.count(1):
            if number > self.taken:
                self._last, self.taken = next(self.reading, None), number
            if self._last is None:
                return
            yield tuple(replace(batch, features=batch.features.clone()) for batch in self._last)
