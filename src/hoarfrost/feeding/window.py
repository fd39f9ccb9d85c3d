"""Several chunks in one piece, their rows in the order in which they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..cache import CacheSpec
from ..codecs import FirstRows, dequantise
from ..cuts import Crossing
from ..samples import Block, Order, Rows

__all__ = ["Batch", "Window", "batch_of", "filled"]


# A window whose floats take no more becomes floats chunk by chunk, with one row of scales each; in a larger one bytes
# are moved, and each batch becomes floats when its turn comes.
DENSE_WINDOW_BYTES = 16 << 20


@dataclass(frozen=True)
class Window:
    """Several chunks in one piece, the rows as they leave: values [W, ...] in physical order, tables [chunks, C].

    Where samples differ in length each has as many rows of values as it is long, one behind the other.

    Attributes:
        scale, low: of each chunk; scale is None where values are floats, low where it would add nothing.
        chunk_of: the row of the tables for each row of values [W].
        first: of each sample the tokens that are no levels, which stand in their places once the others are floats.
    """

    values: Tensor
    scale: Tensor | None
    low: Tensor | None
    chunk_of: Tensor
    channel_axis: int
    dtype: torch.dtype
    targets: Tensor
    sample_ids: Tensor
    lengths: Tensor | None = None
    first: FirstRows | None = None

    @property
    def rows(self) -> int:
        """Samples."""
        return len(self.targets)

    @cached_property
    def ends(self) -> list[int]:
        """The row of values behind each sample's last, from 0 on; where samples differ in length."""
        return [] if self.lengths is None else [0, *self.lengths.cumsum(0).tolist()]

    @classmethod
    def gather(
        cls, blocks: list[Block], rows: Tensor, chunks: list[int], order: Order, device: torch.device | None
    ) -> Window:
        """The blocks of `chunks`, which are let go one by one, in the order `rows`.

        For a CUDA device all that travels lies in pinned memory, from which it copies by itself.
        """
        targets = torch.cat([block.targets for block in blocks]).index_select(0, rows)
        sample_ids = torch.cat([order.members(chunk) for chunk in chunks]).index_select(0, rows)
        first, sizes = blocks[0].features, [len(block.features.values) for block in blocks]
        # A sampler's epoch may show a row often, or never; of a chunk that is another rank's too, some are not shown.
        lengths, once = None, order.sampling is None and len(rows) == sum(map(order.size, chunks))
        samples, stored = rows, [block.lengths for block in blocks if block.lengths is not None]
        if stored:
            lengths = torch.cat(stored)
            rows, lengths = _entries(rows, lengths), lengths[rows]
        shape, pinned = (len(rows), *first.values.shape[1:]), device is not None and device.type == "cuda"
        # Derived views are floats already; beside them quantised ones become floats here.
        dense = len({_kind(block) for block in blocks}) > 1 or (
            device is None and prod(shape) * first.dtype.itemsize <= DENSE_WINDOW_BYTES
        )
        scales = [block.features.scale for block in blocks if block.features.scale is not None and not dense]
        lows = [block.features.low for block in blocks if block.features.low is not None and not dense]
        firsts = [block.features.first for block in blocks if block.features.first is not None and not dense]
        chunk_of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).index_select(0, rows)
        values = torch.empty(shape, dtype=first.dtype if dense else first.values.dtype, pin_memory=pinned)
        places = None
        if once:
            places = torch.empty_like(rows)
            places[rows] = torch.arange(len(rows))
        for end, size in zip(accumulate(sizes), sizes, strict=True):
            packed = blocks.pop(0).features
            block = packed.dense() if dense else packed.values
            if places is not None:
                _put(block, values, places[end - size : end])
            else:
                _place(block, values, rows, end - size)
        low = torch.stack(lows) if scales and not _adds_nothing(scales, lows) else None

        apart = FirstRows.joined(firsts).of(samples) if firsts else None

        def placed(tensor: Tensor) -> Tensor:
            return tensor.pin_memory() if pinned else tensor

        return cls(
            values=values,
            scale=placed(torch.stack(scales)) if scales else None,
            low=None if low is None else placed(low),
            chunk_of=placed(chunk_of),
            channel_axis=first.channel_axis,
            dtype=first.dtype,
            targets=placed(targets),
            sample_ids=sample_ids,
            lengths=lengths,
            first=apart.pinned() if apart is not None and pinned else apart,
        )

    def with_targets(self, targets: Tensor | None) -> Window:
        """The same with other targets [n, ...]; None: with its own."""
        if targets is None:
            return self
        return replace(self, targets=targets.pin_memory() if self.targets.is_pinned() else targets)

    def with_tables_on(self, device: torch.device | None) -> Window:
        """The same with scales and what goes with them on a device; they are small, and wanted for each batch."""
        if device is None or self.scale is None:
            return self

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        low = None if self.low is None else moved(self.low)
        return replace(self, scale=moved(self.scale), low=low, chunk_of=moved(self.chunk_of))

    def features(self, begin: int, end: int, device: torch.device | None) -> Tensor:
        """Samples as floats, still in physical order; quantised bytes travel, floats are made on the device."""
        first = None if self.first is None else self.first.of(slice(begin, end))
        if self.lengths is not None:
            begin, end = self.ends[begin], self.ends[end]
        values = self.values[begin:end]
        if device is not None:
            values = values.to(device, non_blocking=True)
        if self.scale is None:
            # Who writes into one batch must not seem to have written into all that share the window's memory: `data`
            # gives autograd a count of its own.
            features = values.to(self.dtype)
            return (features if first is None else first.put_into(features)).data
        chunk_of = self.chunk_of[begin:end]
        scale = self.scale.index_select(0, chunk_of)
        low = None if self.low is None else self.low.index_select(0, chunk_of)
        features = dequantise(values, scale, low, self.dtype, self.channel_axis)
        return features if first is None else first.put_into(features)


def _kind(block: Block) -> tuple[object, ...]:
    """Blocks of one kind become one window of levels, or of floats."""
    packed = block.features
    return packed.values.dtype, packed.scale is None, None if packed.first is None else packed.first.tokens


def _entries(rows: Tensor, lengths: Tensor) -> Tensor:
    """Which entries leave, one behind the other, where the samples at `rows` do: each is `lengths` long."""
    begins, sizes = (lengths.cumsum(0) - lengths)[rows], lengths[rows]
    within = torch.arange(int(sizes.sum())) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    return torch.repeat_interleave(begins, sizes) + within


def _place(block: Tensor, values: Tensor, rows: Tensor, begin: int) -> None:
    """Put a block's rows where they leave, however often, or never."""
    where = ((rows >= begin) & (rows < begin + len(block))).nonzero()[:, 0]
    _put(block.index_select(0, rows[where] - begin), values, where)


def _put(rows: Tensor, values: Tensor, place: Tensor) -> None:
    """`values[place] = rows`, as bytes: numpy moves whole rows, torch's `index_copy_` goes through their elements."""
    _row_bytes(values)[place.numpy()] = _row_bytes(rows.contiguous())


def _row_bytes(values: Tensor) -> NDArray[np.uint8]:
    return values.view(len(values), -1).view(torch.uint8).numpy()


def _adds_nothing(scales: Sequence[Tensor], lows: Sequence[Tensor]) -> bool:
    """Whether adding `low` changes no bit: all zeros, and no negative scale, which could make a zero negative."""
    return not any(bool(low.any()) for low in lows) and not any(bool((scale < 0).any()) for scale in scales)


@dataclass(frozen=True)
class Batch:
    """What leaves the loader: features [B, ...] and targets [B, ...] on the device, and whose they are [B].

    Where samples differ in length `lengths` [B] says how long each is, and features are [sum of lengths, ...].
    """

    features: Tensor
    targets: Tensor
    sample_ids: Tensor
    lengths: Tensor | None = None

    def without(self, gone: Tensor) -> Batch:
        """The same without some samples, bool [B]."""
        stays, lengths = ~gone, self.lengths
        rows = stays if lengths is None else torch.repeat_interleave(stays, lengths)
        place = self.features.device
        return Batch(
            self.features[rows.to(place)],
            self.targets[stays.to(self.targets.device)],
            self.sample_ids[stays],
            None if lengths is None else lengths[stays],
        )


def batch_of(parts: list[tuple[Window, int, int]], spec: CacheSpec, device: torch.device | None) -> Batch:
    def joined(pieces: list[Tensor]) -> Tensor:
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    features = spec.logical(joined([window.features(begin, end, device) for window, begin, end in parts]))
    targets = joined([window.targets[begin:end] for window, begin, end in parts])
    ids = joined([window.sample_ids[begin:end] for window, begin, end in parts])
    parted = [window.lengths[begin:end] for window, begin, end in parts if window.lengths is not None]
    lengths = joined(parted) if parted else None
    return Batch(features, targets if device is None else targets.to(device, non_blocking=True), ids, lengths)


def filled(batch: Batch, crossing: Crossing) -> Tensor | Rows:
    """The features of a batch; where samples differ in length, with their lengths, to be padded as the batch is."""
    return batch.features if batch.lengths is None else Rows.of(batch.features, batch.lengths, crossing)
