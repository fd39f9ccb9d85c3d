"""From chunks to batches: the order of an epoch, the shuffle window, loading ahead.

Chunks are permuted each epoch, the samples of a window of chunks are mixed, and batches leave from the window
(coarse-grained chunk shuffling, Yang et al. 2025). Everything here is a pure function of (seed, epoch, rank, world
size), so that two runs see the same batches, and a run can resume in the middle of an epoch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..cache import CacheSpec
from ..errors import ArgumentError, CacheError
from ..samples import Block, Order, batch_bounds
from ..threads import thread_pool
from .streams import sent_ahead
from .window import Batch, Window, batch_of

__all__ = ["ChunkSource", "feature_batches"]


class ChunkSource(Protocol):
    """Gives the features of one chunk in one epoch: the cache, or the prefix itself."""

    def kept(self, chunk: int, epoch: int) -> Block | None:
        """The chunk's features where they are in memory already."""
        ...

    def ahead(self, chunk: int, epoch: int) -> bool:
        """May `load` run in a thread, ahead of the training? What runs the prefix may not: it uses torch's threads and
        random state."""
        ...

    def load(self, chunk: int, epoch: int) -> Block: ...

    def recover(self, chunk: int, epoch: int, reason: Exception) -> Block:
        """Called in the training thread when `load` raised a CacheError."""
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
    threads: int | None = None,
    bounds: Sequence[tuple[int, int]] | None = None,
    targets: Callable[[Tensor], Tensor | None] | None = None,
) -> Generator[Batch, None, None]:
    """One epoch of features from a chunk source.

    While one window is being trained on, the next is loaded in threads, if the source allows. Memory: two windows
    of quantised features, whatever the size of the cache. To a CUDA device the bytes of the next batch travel while
    this one is trained on.

    Args:
        spec: shapes and layout of the features that the source gives.
        start: batches to skip, to resume in the middle of an epoch; windows that lie wholly in front are not loaded.
        device: where batches go; None is the CPU.
        threads: that read; None: as many as are likely to be free, 0: none.
        bounds: where batches begin and end; None: each has `batch_size` samples.
        targets: sample numbers [n] -> targets [n, ...] in the place of those that the source gives, or None.
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
    threads = _reading_threads(device) if threads is None else threads
    with _Loader(source, epoch, order, device, threads, targets) as loader:
        pieces = _pieces(_windows(loader, windows, skipped), [end - begin for begin, end in bounds])
        batches = (batch_of(parts, spec, device) for parts in pieces)
        yield from sent_ahead(batches, device) if device is not None and device.type == "cuda" else batches


def _reading_threads(device: torch.device | None) -> int:
    """Beside a training on the CPU two; where that runs elsewhere half of the cores are free to read."""
    return 2 if device is None else max(2, min(8, (os.cpu_count() or 2) // 2))


def _behind(windows: list[tuple[list[int], Tensor]], skipped: int) -> tuple[list[tuple[list[int], Tensor]], int]:
    """The windows without those that lie wholly within the first `skipped` rows, and what is left to skip."""
    while skipped >= len(windows[0][1]):
        skipped -= len(windows[0][1])
        windows = windows[1:]
    return windows, skipped


def _windows(loader: _Loader, windows: list[tuple[list[int], Tensor]], skipped: int) -> Iterator[tuple[Window, int]]:
    """Each window, and the row at which it begins; the next one is being loaded by then."""
    coming = loader.submit(*windows[0])
    for number in range(len(windows)):
        window = loader.collect(coming)
        if number + 1 < len(windows):
            coming = loader.submit(*windows[number + 1])
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


@dataclass
class _Coming:
    """A window on its way.

    Attributes:
        items: a future for each chunk that is loaded in a thread, the chunk's block where it was there already, and its
            number where the training thread has to load it.
        gathered: the window, where a thread puts it together as well; None in it where a chunk turned out damaged.
    """

    chunks: list[int]
    rows: Tensor
    items: list[Future[Block] | Block | int]
    gathered: Future[Window | None] | None = None


class _Loader:
    """Loads the chunks of a window, in threads where the source allows it.

    For another device than the CPU a thread puts the window together too: what that takes would keep the training
    thread from giving the device its work. On the CPU it would take the training's cores.

    A process that is forked in the middle of an epoch has none of the threads: there it loads what they would have.
    """

    def __init__(
        self,
        source: ChunkSource,
        epoch: int,
        order: Order,
        device: torch.device | None,
        threads: int,
        targets: Callable[[Tensor], Tensor | None] | None,
    ) -> None:
        self._targets = targets
        self._source, self._epoch, self._order, self._device = source, epoch, order, device
        self._pool = thread_pool(threads, "hoarfrost-read") if threads > 0 else None
        self._gathering = thread_pool(1, "hoarfrost-window") if device is not None and threads > 0 else None
        self._process = os.getpid()

    @property
    def _forked(self) -> bool:
        return os.getpid() != self._process

    def __enter__(self) -> _Loader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._forked:
            return
        for pool in (self._pool, self._gathering):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, chunks: list[int], rows: Tensor) -> _Coming:
        """Begin to load a window's chunks."""
        coming = _Coming(chunks, rows, [self._begun(chunk) for chunk in chunks])
        if self._gathering is not None and not self._forked and not any(isinstance(item, int) for item in coming.items):
            coming.gathered = self._gathering.submit(self._gathered, coming)
        return coming

    def collect(self, coming: _Coming) -> Window:
        """The window, its tables on the device."""
        if self._forked:
            coming = _Coming(coming.chunks, coming.rows, [*coming.chunks])
        window = None if coming.gathered is None else coming.gathered.result()
        if window is None:
            # Emptied on the way: a future would hold its block while the next ones are loaded.
            blocks = [self._block(chunk, coming.items.pop(0)) for chunk in coming.chunks]
            window = self._window(blocks, coming)
        return window.with_tables_on(self._device)

    def _begun(self, chunk: int) -> Future[Block] | Block | int:
        kept = self._source.kept(chunk, self._epoch)
        if kept is not None:
            # Finding it takes less than handing it over to a thread.
            return kept
        if self._pool is not None and not self._forked and self._source.ahead(chunk, self._epoch):
            return self._pool.submit(self._source.load, chunk, self._epoch)
        return chunk

    def _gathered(self, coming: _Coming) -> Window | None:
        """In a thread. What is damaged is left to the training thread, which may run the prefix."""
        try:
            blocks = [item.result() if isinstance(item, Future) else item for item in coming.items]
        except CacheError:
            return None
        coming.items.clear()
        found = [block for block in blocks if isinstance(block, Block)]
        del blocks
        return self._window(found, coming)

    def _window(self, blocks: list[Block], coming: _Coming) -> Window:
        window = Window.gather(blocks, coming.rows, coming.chunks, self._order, self._device)
        return window if self._targets is None else window.with_targets(self._targets(window.sample_ids))

    def _block(self, chunk: int, item: Future[Block] | Block | int) -> Block:
        if isinstance(item, Block):
            return item
        try:
            return self._source.load(chunk, self._epoch) if isinstance(item, int) else item.result()
        except CacheError as error:
            return self._source.recover(chunk, self._epoch, error)
