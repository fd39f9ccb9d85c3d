"""From chunks to batches: the order of an epoch, the shuffle window, loading ahead.

Chunks are permuted each epoch, the samples of a window of chunks are mixed, and batches leave from the window
(coarse-grained chunk shuffling, Yang et al. 2025). Everything here is a pure function of (seed, epoch, rank, world
size), so that two runs see the same batches, and a run can resume in the middle of an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from .cache import CacheSpec
from .codecs import Packed, dequantise
from .errors import ArgumentError, CacheDirectoryError, CorruptChunkError
from .seeds import mix

__all__ = ["Batch", "Block", "ChunkSource", "Order", "batch_bounds", "feature_batches"]


@dataclass(frozen=True)
class Order:
    """Which samples stand in which chunk, and the order in which an epoch visits them.

    Args:
        samples: number of samples, N.
        seed: of the partition into chunks and of every epoch's order.
        chunk_size: samples in a chunk; the last one may be shorter.
        window: chunks whose samples are mixed; at least the number of chunks gives a full shuffle.
        rank, world_size: this process's share: every `world_size`-th chunk of the epoch's permutation.
    """

    samples: int
    seed: int
    chunk_size: int = 64
    window: int = 16
    rank: int = 0
    world_size: int = 1

    @property
    def chunks(self) -> int:
        return -(-self.samples // self.chunk_size)

    def members(self, chunk: int) -> Tensor:
        """Sample ids of a chunk, int64 [n]: a random part of the data set, the same in every epoch.

        Random, because a folder of images is sorted by class, and a chunk of one class would never be mixed well.
        """
        return self._partition[chunk * self.chunk_size : (chunk + 1) * self.chunk_size]

    def shuffled(self, epoch: int) -> Tensor:
        """All of this rank's sample ids in a full shuffle, int64 [N / world_size]."""
        return torch.randperm(self.samples, generator=self._generator(epoch, 1))[self.rank :: self.world_size]

    def windows(self, epoch: int) -> Iterator[tuple[list[int], Tensor]]:
        """The epoch as windows: the chunks of each, and the order [rows] in which its samples leave.

        Row r of a window is the sample at r in the concatenation of its chunks.
        """
        permutation = torch.randperm(self.chunks, generator=self._generator(epoch, 2)).tolist()
        mine = permutation[self.rank :: self.world_size]
        mixing = self._generator(epoch, 3 + self.rank)
        for start in range(0, len(mine), self.window):
            chunks = mine[start : start + self.window]
            rows = sum(self.size(chunk) for chunk in chunks)
            yield chunks, torch.randperm(rows, generator=mixing)

    def size(self, chunk: int) -> int:
        """Number of samples in a chunk."""
        return min(self.chunk_size, self.samples - chunk * self.chunk_size)

    @cached_property
    def _partition(self) -> Tensor:
        return torch.randperm(self.samples, generator=self._generator(0, 0))

    def _generator(self, epoch: int, purpose: int) -> torch.Generator:
        return torch.Generator().manual_seed(mix(self.seed, epoch, purpose))


@dataclass(frozen=True)
class Block:
    """The features of one chunk as the window holds them, and the targets beside them [n, ...]."""

    features: Packed
    targets: Tensor


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


def batch_bounds(rows: int, batch_size: int) -> list[tuple[int, int]]:
    """Where batches begin and end; a single left-over sample joins the last batch.

    Batch normalisation refuses a batch of one, and to drop the sample would leave it untrained.
    """
    starts = list(range(0, rows, batch_size))
    if batch_size > 1 and len(starts) > 1 and rows - starts[-1] == 1:
        starts.pop()
    ends = [*starts[1:], rows]
    return list(zip(starts, ends[: len(starts)], strict=True))


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
    of quantised features, whatever the size of the cache.

    Args:
        spec: shapes and layout of the features that the source gives.
        start: batches to skip, to resume in the middle of an epoch; windows that lie wholly in front are not loaded.
    """
    if batch_size < 1:
        raise ArgumentError(f"batch_size must be at least 1, not {batch_size}")
    windows = [*order.windows(epoch)]
    bounds = batch_bounds(sum(len(rows) for _, rows in windows), batch_size)[start:]
    if not bounds:
        return
    windows = _behind(windows, bounds[0][0])
    with _Loader(source, epoch, threads) as loader:
        pending = [loader.submit(chunks) for chunks, _ in windows[:1]]
        held: list[tuple[_Window, Tensor]] = []
        available = 0
        upcoming = 0
        for begin, end in bounds:
            while available < end - begin:
                window = _Window.gather(
                    loader.collect(windows[upcoming][0], pending.pop(0)), windows[upcoming][0], order
                )
                held.append((window, windows[upcoming][1]))
                available += len(windows[upcoming][1])
                upcoming += 1
                if upcoming < len(windows):
                    pending.append(loader.submit(windows[upcoming][0]))
            parts: list[tuple[_Window, Tensor]] = []
            wanted = end - begin
            while wanted:
                window, rows = held[0]
                taken, left = rows[:wanted], rows[wanted:]
                parts.append((window, taken))
                wanted -= len(taken)
                held[0] = (window, left)
                if not len(left):
                    held.pop(0)
            available -= end - begin
            yield _batch(parts, spec, device)


def _behind(windows: list[tuple[list[int], Tensor]], skipped: int) -> list[tuple[list[int], Tensor]]:
    """The windows without their first `skipped` rows."""
    while skipped >= len(windows[0][1]):
        skipped -= len(windows[0][1])
        windows = windows[1:]
    chunks, rows = windows[0]
    return [(chunks, rows[skipped:]), *windows[1:]]


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
        return [self._block(chunk, item) for chunk, item in zip(chunks, pending, strict=True)]

    def _block(self, chunk: int, item: Future[Block] | int) -> Block:
        try:
            return self._source.load(chunk, self._epoch) if isinstance(item, int) else item.result()
        except (CorruptChunkError, CacheDirectoryError) as error:
            return self._source.recover(chunk, self._epoch, error)


@dataclass(frozen=True)
class _Window:
    """Several chunks in one piece: values [W, ...] in physical order, scale and low [chunks, C] or none."""

    values: Tensor
    scale: Tensor | None
    low: Tensor | None
    chunk_of: Tensor
    channel_axis: int
    dtype: torch.dtype
    targets: Tensor
    sample_ids: Tensor

    @classmethod
    def gather(cls, blocks: list[Block], chunks: list[int], order: Order) -> _Window:
        packed = [block.features for block in blocks]
        if any(p.scale is None for p in packed):
            # Derived views are floats already; beside them quantised ones become floats here.
            packed = [p if p.scale is None else replace(p, values=p.dense(), scale=None, low=None) for p in packed]
        sizes = torch.tensor([len(p.values) for p in packed])
        scales = [p.scale for p in packed if p.scale is not None]
        lows = [p.low for p in packed if p.low is not None]
        return cls(
            values=torch.cat([p.values for p in packed]),
            scale=torch.stack(scales) if scales else None,
            low=torch.stack(lows) if lows else None,
            chunk_of=torch.repeat_interleave(torch.arange(len(packed)), sizes),
            channel_axis=packed[0].channel_axis,
            dtype=packed[0].dtype,
            targets=torch.cat([block.targets for block in blocks]),
            sample_ids=torch.cat([order.members(chunk) for chunk in chunks]),
        )

    def dense(self, rows: Tensor, device: torch.device | None) -> Tensor:
        """Rows as floats, still in physical order; quantised bytes travel, floats are made on the device."""
        values = self.values.index_select(0, rows)
        if device is not None:
            values = values.to(device, non_blocking=True)
        if self.scale is None or self.low is None:
            return values.to(self.dtype)
        per_row = self.chunk_of.index_select(0, rows)
        scale, low = (table.index_select(0, per_row).to(values.device) for table in (self.scale, self.low))
        return dequantise(values, scale, low, self.dtype, self.channel_axis)


def _batch(parts: list[tuple[_Window, Tensor]], spec: CacheSpec, device: torch.device | None) -> Batch:
    def joined(pieces: list[Tensor]) -> Tensor:
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    features = spec.logical(joined([window.dense(rows, device) for window, rows in parts]))
    targets = joined([window.targets.index_select(0, rows) for window, rows in parts])
    ids = joined([window.sample_ids.index_select(0, rows) for window, rows in parts])
    return Batch(features, targets if device is None else targets.to(device), ids)
