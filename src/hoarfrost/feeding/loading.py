"""From chunks to batches: the order of an epoch, the shuffle window, loading ahead.

Chunks are permuted each epoch, the samples of a window of chunks are mixed, and batches leave from the window
(coarse-grained chunk shuffling, Yang et al. 2025). Everything here is a pure function of (seed, epoch, rank, world
size), so that two runs see the same batches, and a run can resume in the middle of an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from ..cache import CacheSpec
from ..errors import ArgumentError, CacheDirectoryError, CorruptChunkError
from ..samples import Block, Order, batch_bounds
from .streams import sent_ahead
from .window import Batch, Window, batch_of

__all__ = ["ChunkSource", "feature_batches"]


class ChunkSource(Protocol):
    """Gives the features of one chunk in one epoch: the cache, or the prefix itself."""

    def ahead(self, chunk: int, epoch: int) -> bool:
        """May `load` run in a thread, ahead of the training? What runs the prefix may not: it uses torch's threads and
        random state."""
        ...

    def load(self, chunk: int, epoch: int) -> Block: ...

    def recover(self, chunk: int, epoch: int, reason: Exception) -> Block:
        """Called in the training thread when `load` raised CorruptChunkError or CacheDirectoryError."""
        ...


def feature_batches(
    source: ChunkSource,
    order: Order,
    spec: CacheSpec,
    epoch: int,
    batch_size: int,
    *,
    start: int = 0,
    device: torch.device | None = None,
    threads: int = 2,
    bounds: Sequence[tuple[int, int]] | None = None,
) -> Iterator[Batch]:
    """One epoch of features from a chunk source.

    While one window is being trained on, the next is loaded in threads, if the source allows. Memory: two windows
    of quantised features, whatever the size of the cache. To a CUDA device the bytes of the next batch travel while
    this one is trained on.

    Args:
        spec: shapes and layout of the features that the source gives.
        start: batches to skip, to resume in the middle of an epoch; windows that lie wholly in front are not loaded.
        device: where batches go; None is the CPU.
        bounds: where batches begin and end; None: each has `batch_size` samples.
    """
    if batch_size < 1:
        raise ArgumentError(f"batch_size must be at least 1, not {batch_size}")
    windows = [*order.windows(epoch)]
    if bounds is None:
        bounds = batch_bounds(sum(len(rows) for _, rows in windows), batch_size)
    bounds = bounds[start:]
    if not bounds:
        return
    windows, skipped = _behind(windows, bounds[0][0])
    with _Loader(source, epoch, threads) as loader:
        pieces = _pieces(_windows(loader, windows, skipped, order, device), [end - begin for begin, end in bounds])
        batches = (batch_of(parts, spec, device) for parts in pieces)
        yield from sent_ahead(batches, device) if device is not None and device.type == "cuda" else batches


def _behind(windows: list[tuple[list[int], Tensor]], skipped: int) -> tuple[list[tuple[list[int], Tensor]], int]:
    """The windows without those that lie wholly within the first `skipped` rows, and what is left to skip."""
    while skipped >= len(windows[0][1]):
        skipped -= len(windows[0][1])
        windows = windows[1:]
    return windows, skipped


def _windows(
    loader: _Loader,
    windows: list[tuple[list[int], Tensor]],
    skipped: int,
    order: Order,
    device: torch.device | None,
) -> Iterator[tuple[Window, int]]:
    """Each window, and the row at which it begins; the next one is being loaded by then."""
    pending = loader.submit(windows[0][0])
    for number, (chunks, rows) in enumerate(windows):
        blocks = loader.collect(chunks, pending)
        window = Window.gather(blocks, rows, chunks, order, device)
        if number + 1 < len(windows):
            pending = loader.submit(windows[number + 1][0])
        yield window, 0 if number else skipped


def _pieces(windows: Iterator[tuple[Window, int]], sizes: Sequence[int]) -> Iterator[list[tuple[Window, int, int]]]:
    """For each batch the windows that it is cut from, with the rows where it begins and ends in each."""
    window, at = next(windows)
    for size in sizes:
        parts: list[tuple[Window, int, int]] = []
        while size:
            if at == window.rows:
                window, at = next(windows)
            taken = min(size, window.rows - at)
            parts.append((window, at, at + taken))
            at, size = at + taken, size - taken
        yield parts


class _Loader:
    """Loads the chunks of a window, in threads where the source allows it."""

    def __init__(self, source: ChunkSource, epoch: int, threads: int) -> None:
        self._source = source
        self._epoch = epoch
        self._pool = ThreadPoolExecutor(threads, "hoarfrost-read") if threads > 0 else None

    def __enter__(self) -> _Loader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, chunks: list[int]) -> list[Future[Block] | int]:
        """What will be loaded ahead as futures, the rest as the chunks' numbers."""
        return [
            self._pool.submit(self._source.load, chunk, self._epoch)
            if self._pool is not None and self._source.ahead(chunk, self._epoch)
            else chunk
            for chunk in chunks
        ]

    def collect(self, chunks: list[int], pending: list[Future[Block] | int]) -> list[Block]:
        """The blocks of `chunks`. Empties `pending`: a future would hold its block while the next ones are loaded."""
        return [self._block(chunk, pending.pop(0)) for chunk in chunks]

    def _block(self, chunk: int, item: Future[Block] | int) -> Block:
        try:
            return self._source.load(chunk, self._epoch) if isinstance(item, int) else item.result()
        except (CorruptChunkError, CacheDirectoryError) as error:
            return self._source.recover(chunk, self._epoch, error)
