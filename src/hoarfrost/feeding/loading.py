"""From chunks to batches: the order of an epoch, the shuffle window, loading ahead.

Chunks are permuted each epoch, the samples of a window of chunks are mixed, and batches leave from the window
(coarse-grained chunk shuffling, Yang et al. 2025). Everything here is a pure function of (seed, epoch, rank, world
size), so that two runs see the same batches, and a run can resume in the middle of an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..cache import CacheSpec
from ..codecs import dequantise
from ..errors import ArgumentError, CacheDirectoryError, CorruptChunkError
from ..samples.order import Order, batch_bounds
from ..samples.prefix_source import Block

__all__ = ["Batch", "ChunkSource", "feature_batches", "sent_ahead"]

# A window whose floats take no more becomes floats chunk by chunk, with one row of scales each; in a larger one bytes
# are moved, and each batch becomes floats when its turn comes.
_DENSE_WINDOW_BYTES = 16 << 20


@dataclass(frozen=True)
class Batch:
    """What leaves the loader: features [B, ...] and targets [B, ...] on the device, and whose they are [B]."""

    features: Tensor
    targets: Tensor
    sample_ids: Tensor


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
) -> Iterator[Batch]:
    """One epoch of features from a chunk source.

    While one window is being trained on, the next is loaded in threads, if the source allows. Memory: two windows
    of quantised features, whatever the size of the cache. To a CUDA device the bytes of the next batch travel while
    this one is trained on.

    Args:
        spec: shapes and layout of the features that the source gives.
        start: batches to skip, to resume in the middle of an epoch; windows that lie wholly in front are not loaded.
        device: where batches go; None is the CPU.
    """
    if batch_size < 1:
        raise ArgumentError(f"batch_size must be at least 1, not {batch_size}")
    windows = [*order.windows(epoch)]
    bounds = batch_bounds(sum(len(rows) for _, rows in windows), batch_size)[start:]
    if not bounds:
        return
    windows, skipped = _behind(windows, bounds[0][0])
    with _Loader(source, epoch, threads) as loader:
        pieces = _pieces(_windows(loader, windows, skipped, order, device), [end - begin for begin, end in bounds])
        batches = (_batch(parts, spec, device) for parts in pieces)
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
) -> Iterator[tuple[_Window, int]]:
    """Each window, and the row at which it begins; the next one is being loaded by then."""
    pending = loader.submit(windows[0][0])
    for number, (chunks, rows) in enumerate(windows):
        blocks = loader.collect(chunks, pending)
        window = _Window.gather(blocks, rows, chunks, order, device)
        if number + 1 < len(windows):
            pending = loader.submit(windows[number + 1][0])
        yield window, 0 if number else skipped


def _pieces(windows: Iterator[tuple[_Window, int]], sizes: Sequence[int]) -> Iterator[list[tuple[_Window, int, int]]]:
    """For each batch the windows that it is cut from, with the rows where it begins and ends in each."""
    window, at = next(windows)
    for size in sizes:
        parts: list[tuple[_Window, int, int]] = []
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


@dataclass(frozen=True)
class _Window:
    """Several chunks in one piece, the rows as they leave: values [W, ...] in physical order, tables [chunks, C].

    Attributes:
        scale, low: of each chunk; scale is None where values are floats, low where it would add nothing.
        chunk_of: the row of the tables for each row of values [W].
    """

    values: Tensor
    scale: Tensor | None
    low: Tensor | None
    chunk_of: Tensor
    channel_axis: int
    dtype: torch.dtype
    targets: Tensor
    sample_ids: Tensor

    @property
    def rows(self) -> int:
        return len(self.values)

    @classmethod
    def gather(
        cls, blocks: list[Block], rows: Tensor, chunks: list[int], order: Order, device: torch.device | None
    ) -> _Window:
        """The blocks of `chunks`, which are let go one by one, in the order `rows`.

        For a CUDA device bytes and targets lie in pinned memory, from which it copies by itself, and the tables on it.
        """
        first, sizes = blocks[0].features, [len(block.targets) for block in blocks]
        shape, pinned = (len(rows), *first.values.shape[1:]), device is not None and device.type == "cuda"
        # Derived views are floats already; beside them quantised ones become floats here.
        dense = len({(block.features.values.dtype, block.features.scale is None) for block in blocks}) > 1 or (
            device is None and prod(shape) * first.dtype.itemsize <= _DENSE_WINDOW_BYTES
        )
        scales = [block.features.scale for block in blocks if block.features.scale is not None and not dense]
        lows = [block.features.low for block in blocks if block.features.low is not None and not dense]
        chunk_of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).index_select(0, rows)
        targets = torch.cat([block.targets for block in blocks]).index_select(0, rows)
        values = torch.empty(shape, dtype=first.dtype if dense else first.values.dtype, pin_memory=pinned)
        places = torch.empty_like(rows)
        places[rows] = torch.arange(len(rows))
        for end, size in zip(accumulate(sizes), sizes, strict=True):
            packed = blocks.pop(0).features
            _put(packed.dense() if dense else packed.values, values, places[end - size : end])
        return cls(
            values=values,
            scale=torch.stack(scales).to(device) if scales else None,
            low=torch.stack(lows).to(device) if scales and not _adds_nothing(scales, lows) else None,
            chunk_of=chunk_of.to(device),
            channel_axis=first.channel_axis,
            dtype=first.dtype,
            targets=targets.pin_memory() if pinned else targets,
            sample_ids=torch.cat([order.members(chunk) for chunk in chunks]).index_select(0, rows),
        )

    def features(self, begin: int, end: int, device: torch.device | None) -> Tensor:
        """Rows as floats, still in physical order; quantised bytes travel, floats are made on the device."""
        values = self.values[begin:end]
        if device is not None:
            values = values.to(device, non_blocking=True)
        if self.scale is None:
            # Who writes into one batch must not seem to have written into all that share the window's memory: `data`
            # gives autograd a count of its own.
            return values.to(self.dtype).data
        chunk_of = self.chunk_of[begin:end]
        scale = self.scale.index_select(0, chunk_of)
        low = None if self.low is None else self.low.index_select(0, chunk_of)
        return dequantise(values, scale, low, self.dtype, self.channel_axis)


def _put(rows: Tensor, values: Tensor, place: Tensor) -> None:
    """`values[place] = rows`, as bytes: numpy moves whole rows, torch's `index_copy_` goes through their elements."""
    _row_bytes(values)[place.numpy()] = _row_bytes(rows.contiguous())


def _row_bytes(values: Tensor) -> NDArray[np.uint8]:
    return values.view(len(values), -1).view(torch.uint8).numpy()


def _adds_nothing(scales: Sequence[Tensor], lows: Sequence[Tensor]) -> bool:
    """Whether adding `low` changes no bit: all zeros, and no negative scale, which could make a zero negative."""
    return not any(bool(low.any()) for low in lows) and not any(bool((scale < 0).any()) for scale in scales)


def _batch(parts: list[tuple[_Window, int, int]], spec: CacheSpec, device: torch.device | None) -> Batch:
    def joined(pieces: list[Tensor]) -> Tensor:
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    features = spec.logical(joined([window.features(begin, end, device) for window, begin, end in parts]))
    targets = joined([window.targets[begin:end] for window, begin, end in parts])
    ids = joined([window.sample_ids[begin:end] for window, begin, end in parts])
    return Batch(features, targets if device is None else targets.to(device, non_blocking=True), ids)


def sent_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches, each prepared on a stream of its own while the one before is trained on.

    Copies from pinned memory and the making of floats then run beside the training's kernels. The training's stream
    waits for a batch before it is handed out, and its memory is given to no one else while that stream may read it.
    """
    side: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    # What the prefix needs, where a chunk has to be computed, was written on the training's stream.
    side.wait_stream(torch.cuda.current_stream(device))

    def prepared() -> tuple[Batch, torch.cuda.Event] | None:
        with torch.cuda.stream(side):
            batch = next(batches, None)
            return None if batch is None else (batch, side.record_event())

    coming = prepared()
    while coming is not None:
        (batch, ready), coming = coming, prepared()
        training = torch.cuda.current_stream(device)
        training.wait_event(ready)
        for tensor in (batch.features, batch.targets):
            tensor.record_stream(training)
        yield batch
