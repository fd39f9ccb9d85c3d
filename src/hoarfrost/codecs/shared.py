"""Linear quantisation with one step for all channels of a chunk, or finer where it matters, each channel by itself.

The body of the frame, little-endian, C channels of M values:

    low   float32[C] | step float32 | top uint8[C] | the channels' levels, packed

A channel whose highest level `top` is 0, 1, up to 3, up to 15 or above takes 0, 1, 2, 4 or 8 bits a level (see
`bits.py`), padded to whole bytes. Channels stand in the order of these bits, then of `-low / step` in float32 (the
level of zero), then of their numbers. `step` is that of the channels that are not finer; the others' follow from the
codec's own `finer` (see `quantising.steps_of`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CodecError
from .base import Codec, register
from .bits import pack_levels, packed_size, unpack_levels
from .features import check_shape
from .frame import BLOCK, squeeze_parts, unsqueeze_parts
from .packed import Packed
from .quantising import common_step, in_float32, quantise, quantising_bound, scratch, steps_of

__all__ = ["Shared"]

Bytes = NDArray[np.uint8]

UNPACKED = 1 << 16
"""Bytes that are unpacked at once."""

MOST_FINER = 12
"""Doublings of weight, from the largest down, that still make a step coarser."""


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

    Args:
        levels: of the channel that takes the most.
        finer: for each channel, by how many quarters of an octave its step is finer; none: by none. See `weighted`.

    Raises:
        CodecError: `levels` is not 2 to 256, or `finer` no sequence of whole numbers from 0 to 64.
    """

    levels: int
    finer: tuple[int, ...] = field(default=(), repr=False)
    name: ClassVar[str] = "shared"

    def __post_init__(self) -> None:
        if isinstance(self.levels, bool) or not isinstance(self.levels, int) or not 2 <= self.levels <= 256:
            raise CodecError(f"Shared takes 2 to 256 levels, not {self.levels!r}")
        object.__setattr__(self, "finer", tuple(self.finer))
        if not all(isinstance(steps, int) and 0 <= steps <= 64 for steps in self.finer):
            raise CodecError(f"Shared's finer steps are whole numbers from 0 to 64, not {self.finer!r}")

    @property
    def weighable(self) -> bool:
        return True

    def weighted(self, weights: Tensor) -> Shared:
        """Finer where an error does more harm: by a quarter of an octave for each doubling of a channel's weight.

        The step that would be best for small errors follows the weight twice as fast (the mean square of the error
        times the weight, alike for all). Half of it did better at the steps that are in use, and trusts less in what
        the suffix makes of a channel today.
        """
        octaves = weights.double().clamp(min=float(weights.max()) * 2.0**-MOST_FINER).log2()
        if not bool(octaves.isfinite().all()):
            return self
        return replace(self, finer=tuple((octaves - octaves.min()).round().int().tolist()))

    def among(self, channels: Sequence[int] | None) -> Shared:
        if channels is None or not self.finer:
            return self
        if max(channels) >= len(self.finer):
            raise CodecError(f"this codec has finer steps for {len(self.finer)} channels, not for {max(channels) + 1}")
        return replace(self, finer=tuple(self.finer[c] for c in channels))

    def each(self, spans: Sequence[float]) -> list[Shared]:
        """What gives channels of such ranges, encoded one by one, the steps that they have among one another."""
        base, _, _ = common_step(torch.zeros(len(spans)), torch.tensor(spans), self.levels, torch.float32, self.finer)
        steps = steps_of(float(base), self.finer, len(spans))
        return [
            Shared(min(256, max(1, round(span / step)) + 1 if step > 0 else self.levels))
            for span, step in zip(spans, steps.tolist(), strict=True)
        ]

    def to_config(self) -> dict[str, Any]:
        finer = {"finer": list(self.finer)} if self.finer else {}
        return {"name": self.name, "levels": self.levels, **finer}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Codec:
        return super().from_config({"finer": (), **config})

    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        dtype = features.dtype
        features, low, high = in_float32(features, channel_axis)
        self._check(len(low))
        base, step, tops = common_step(low, high, self.levels, dtype, self.finer)
        levels = quantise(features, low, step, tops, channel_axis).reshape(features.shape)
        planes = np.ascontiguousarray(np.moveaxis(levels, channel_axis, 0)).reshape(len(low), -1)
        lows, steps, highest = (x.cpu().numpy() for x in (low, step, tops.to(torch.uint8)))
        head = [lows.astype("<f4"), base.reshape(1).cpu().numpy().astype("<f4"), highest]
        parts: list[bytes | Bytes] = [b"".join(part.tobytes() for part in head)]
        for bits, channels in _classes(lows, steps, highest):
            parts += _packed(planes[channels], bits)
        return squeeze_parts(parts)

    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        check_shape(shape, dtype, channel_axis)
        self._check(shape[channel_axis])
        channels, values = shape[channel_axis], prod(shape) // shape[channel_axis]
        head = 5 * channels + 4
        body = np.frombuffer(unsqueeze_parts(payload, head, head + channels * values), np.uint8)
        low, base = body[: 4 * channels].view("<f4"), body[4 * channels : 4 * channels + 4].view("<f4")
        step = steps_of(float(base[0]), self.finer, channels)
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
        return Packed(
            torch.from_numpy(levels), torch.from_numpy(step), torch.from_numpy(low.copy()), dtype, channel_axis
        )

    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        def grid(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
            _, step, tops = common_step(low, high, self.levels, features.dtype, self.finer)
            return step, tops

        return quantising_bound(features, channel_axis, grid)

    def _check(self, channels: int) -> None:
        if self.finer and len(self.finer) != channels:
            raise CodecError(f"this codec has finer steps for {len(self.finer)} channels, the features have {channels}")


def _classes(
    low: NDArray[np.float32], step: NDArray[np.float32], tops: Bytes
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Bits a level, and the channels that take so many, in the order in which they are stored."""
    bits = np.select([tops == 0, tops == 1, tops < 4, tops < 16], [0, 1, 2, 4], 8)
    zero = np.divide(-low, step, out=np.zeros_like(low), where=step > 0)
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
