"""Linear quantisation with one step for all channels of a chunk, each channel coded by itself.

The body of the frame, little-endian, C channels of M values:

    low   float32[C] | step float32 | top uint8[C] | the channels' levels, packed

A channel whose highest level `top` is 0, 1, up to 3, up to 15 or above takes 0, 1, 2, 4 or 8 bits a level (see
`bits.py`), padded to whole bytes. Channels stand in the order of these bits, then of `-low / step` in float32 (the
level of zero), then of their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hoarfrost.codecs.base import Codec, Packed, register
from hoarfrost.codecs.bits import pack_levels, packed_size, unpack_levels
from hoarfrost.codecs.features import check_shape
from hoarfrost.codecs.frame import BLOCK, squeeze_parts, unsqueeze_parts
from hoarfrost.codecs.quantising import common_step, in_float32, quantise, quantising_bound, scratch
from hoarfrost.errors import CodecError

__all__ = ["Shared"]

Bytes = NDArray[np.uint8]

UNPACKED = 1 << 16
"""Bytes that are unpacked at once."""


@register
@dataclass(frozen=True)
class Shared(Codec):
    """One step for all channels of a chunk: the widest channel has `levels` levels, narrower ones fewer.

    A channel of small range then takes few bits instead of as many as the widest (reverse water-filling, Cover and
    Thomas, *Elements of Information Theory*, section 10.3.3). The levels of a channel lie together, several in a byte
    where they are few, and zstd's entropy coder has tables for one channel, or for a few that are alike, where the
    chunk as it lies has one for all.

    A channel's least value comes back exactly (in float32), so the zeros behind a ReLU stay zeros. `levels` need not
    be a power of two: an entropy coder knows nothing of whole bits.

    Raises:
        CodecError: `levels` is not 2 to 256.
    """

    levels: int
    name: ClassVar[str] = "shared"

    def __post_init__(self) -> None:
        if isinstance(self.levels, bool) or not isinstance(self.levels, int) or not 2 <= self.levels <= 256:
            raise CodecError(f"Shared takes 2 to 256 levels, not {self.levels!r}")

    def alone(self, width: float) -> Shared:
        """What gives a channel that is encoded alone its step among others; `width` is its share of the widest."""
        return Shared(max(1, round(width * (self.levels - 1))) + 1)

    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        dtype = features.dtype
        features, low, high = in_float32(features, channel_axis)
        step, tops = common_step(low, high, self.levels, dtype)
        levels = quantise(features, low, step.expand_as(low), tops, channel_axis).reshape(features.shape)
        planes = np.ascontiguousarray(np.moveaxis(levels, channel_axis, 0)).reshape(len(low), -1)
        lows, steps, highest = (x.cpu().numpy() for x in (low, step.reshape(1), tops.to(torch.uint8)))
        parts: list[bytes | Bytes] = [lows.astype("<f4").tobytes() + steps.astype("<f4").tobytes() + highest.tobytes()]
        for bits, channels in _classes(lows, steps, highest):
            parts += _packed(planes[channels], bits)
        return squeeze_parts(parts)

    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        check_shape(shape, dtype, channel_axis)
        channels, values = shape[channel_axis], prod(shape) // shape[channel_axis]
        head = 5 * channels + 4
        body = np.frombuffer(unsqueeze_parts(payload, head, head + channels * values), np.uint8)
        low, step = body[: 4 * channels].view("<f4"), body[4 * channels : 4 * channels + 4].view("<f4")
        classes = [
            (bits, members, packed_size(values, bits) if bits else 0)
            for bits, members in _classes(low, step, body[4 * channels + 4 : head])
        ]
        size = head + sum(row * len(members) for _, members, row in classes)
        if len(body) != size:
            raise CodecError(f"the zstd frame holds {len(body)} bytes, but these features take {size}")
        levels: Bytes = np.empty(tuple(shape), np.uint8)
        # Planes of a few channels are put in their places at once; single values go by way of whole rows.
        scattered = channel_axis == len(shape) - 1
        apart = np.moveaxis(levels, channel_axis, 0)
        planes = scratch("planes", levels.size, torch.uint8).numpy().reshape(apart.shape) if scattered else apart
        begin = head
        for bits, members, row in classes:
            # A few channels at a time, so that what is unpacked of them stays in the processor's cache.
            together = max(1, UNPACKED // max(1, row))
            for start in range(0, len(members), together):
                some = members[start : start + together]
                end = begin + row * len(some)
                unpacked = _unpacked(body[begin:end], len(some), values, bits)
                planes[some], begin = unpacked.reshape(len(some), *apart.shape[1:]), end
        if scattered:
            np.copyto(apart, planes)
        scale = torch.from_numpy(np.repeat(step, channels))
        return Packed(torch.from_numpy(levels), scale, torch.from_numpy(low.copy()), dtype, channel_axis)

    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        return quantising_bound(
            features, channel_axis, lambda low, high: common_step(low, high, self.levels, features.dtype)
        )


def _classes(
    low: NDArray[np.float32], step: NDArray[np.float32], tops: Bytes
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Bits a level, and the channels that take so many, in the order in which they are stored."""
    bits = np.select([tops == 0, tops == 1, tops < 4, tops < 16], [0, 1, 2, 4], 8)
    zero = -low / step if step[0] > 0 else np.zeros_like(low)
    order = np.lexsort((zero, bits))
    for count in (0, 1, 2, 4, 8):
        members = order[bits[order] == count]
        if len(members):
            yield count, members


def _packed(planes: Bytes, bits: int) -> list[Bytes]:
    """`[C, M]` levels as arrays of bytes, each of one channel, or of as many as share a block."""
    if bits == 0:
        return []
    spare = -planes.shape[1] % (8 // bits)
    whole = np.pad(planes, ((0, 0), (0, spare))) if spare else planes
    rows = pack_levels(whole.reshape(-1), bits).reshape(len(planes), -1)
    together = -(-BLOCK // rows.shape[1])
    return [rows[start : start + together] for start in range(0, len(rows), together)]


def _unpacked(packed: Bytes, channels: int, values: int, bits: int) -> Bytes:
    """The inverse of `_packed`: `[C, M]`."""
    if bits == 0:
        return np.zeros((channels, values), np.uint8)
    held = packed_size(values, bits) * (8 // bits)
    return unpack_levels(packed, channels * held, bits).reshape(channels, held)[:, :values]
