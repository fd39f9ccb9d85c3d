"""Linear quantisation between each channel's least and largest value.

The body of the frame, little-endian, C channels, L levels of `bits` bits (see `bits.py`):

    low   float32[C] | scale float32[C] | levels, packed
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hoarfrost.codecs.base import Codec, Packed, along, register
from hoarfrost.codecs.bits import pack_levels, packed_size, unpack_levels
from hoarfrost.codecs.features import channel_range, check_features, check_shape
from hoarfrost.codecs.frame import squeeze, unsqueeze
from hoarfrost.errors import CodecError

__all__ = ["Linear"]

_FLOAT = torch.finfo(torch.float32)
# Elements quantised at once: the scratch array then stays in cache.
_BLOCK = 1 << 19
_THREAD = threading.local()


@register
@dataclass(frozen=True)
class Linear(Codec):
    """`2**bits` evenly spaced levels between the least and the largest value of each channel of a chunk.

    A channel's least value comes back exactly (in float32), so the zeros behind a ReLU stay zeros; a
    channel with one single value is exact. The error is at most half a step, plus float rounding.

    Raises:
        CodecError: `bits` is not 1 to 8.
    """

    bits: int
    name: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not 1 <= self.bits <= 8:
            raise CodecError(f"Linear takes 1 to 8 bits, not {self.bits!r}")

    @property
    def top(self) -> int:
        """The highest level."""
        return (1 << self.bits) - 1

    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        features, low, high = _in_float32(features, channel_axis)
        scale = _step(low, high, self.top)
        head = torch.cat([low, scale]).cpu().numpy().astype("<f4").view(np.uint8)
        levels = _quantise(features, low, scale, self.top, channel_axis)
        packed = pack_levels(levels, self.bits)
        body = np.concatenate([head, packed])
        return squeeze(body.data)

    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        check_shape(shape, dtype, channel_axis)
        channels, count = shape[channel_axis], prod(shape)
        body = unsqueeze(payload, 8 * channels + packed_size(count, self.bits))
        low, scale = torch.frombuffer(body, dtype=torch.float32, count=2 * channels).clone().view(2, channels)
        packed: NDArray[np.uint8] = np.frombuffer(body, np.uint8, offset=8 * channels)
        values = torch.from_numpy(unpack_levels(packed, count, self.bits)).view(*shape)
        return Packed(values, scale, low, dtype, channel_axis)

    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        original = check_features(features, channel_axis)
        exact_low, exact_high = (x.double().cpu() for x in channel_range(original, channel_axis))
        _, low32, high32 = _in_float32(features, channel_axis)
        scale = _step(low32, high32, self.top).double().cpu()
        low = low32.double().cpu()
        reach = low + self.top * scale
        half_step = scale / 2 * (1 + 8 * self.top * _FLOAT.eps)
        outside = (exact_high - reach).clamp(min=0) + (low - exact_low).clamp(min=0)
        largest = torch.stack([exact_low.abs(), exact_high.abs(), self.top * scale]).amax(0)
        info = torch.finfo(original.dtype)
        rounding = largest * (3 * _FLOAT.eps + info.eps) + info.smallest_normal * info.eps + _FLOAT.smallest_normal
        bound = half_step + outside + rounding
        return torch.where((exact_low == exact_high) & (low == exact_low), torch.zeros_like(bound), bound)


def _in_float32(features: Tensor, channel_axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features, least and largest value of each channel, all in float32."""
    features = check_features(features, channel_axis)
    if features.dtype == torch.float64:
        worst = torch.stack(channel_range(features, channel_axis)).abs().amax(0)
        if bool((worst > _FLOAT.max).any()):
            channel = int(worst.argmax())
            raise CodecError(
                f"channel {channel} holds {float(worst[channel]):.6g}, beyond float32 "
                f"({_FLOAT.max:.6g}), in which levels are scaled; use Exact()"
            )
    features = features.float()
    return features, *channel_range(features, channel_axis)


def _step(low: Tensor, high: Tensor, top: int) -> Tensor:
    """`[C]` float32: the distance of two levels; 0 where a channel has one value, or a range too small to
    divide.
    """
    span = high.double() - low.double()
    step = span / top
    # top * step must not pass the largest float. A range wider than that keeps its lower part; error_bound
    # says so.
    step = step.clamp(max=_FLOAT.max * (1 - 2**-20) / top)
    near_overflow = low.double() + top * step > _FLOAT.max * (1 - 2**-20)
    step = torch.where(near_overflow, step * (1 - 2**-20), step).float()
    # A subnormal step has lost its precision, and may be flushed to zero by the device that scales the
    # levels.
    return torch.where(step < _FLOAT.smallest_normal, torch.zeros_like(step), step)


def _quantise(features: Tensor, low: Tensor, step: Tensor, top: int, channel_axis: int) -> NDArray[np.uint8]:
    """The level of each value, one a byte, flat in C order."""
    low = along(low, features.ndim, channel_axis)
    steps_per_unit = along(torch.where(step > 0, 1 / step, torch.zeros_like(step)), features.ndim, channel_axis)
    if features.device.type != "cpu":
        nearest = (features - low).mul_(steps_per_unit).add_(0.5).clamp_(0, top + 0.5)
        return nearest.to(torch.uint8).cpu().numpy().reshape(-1)
    levels: NDArray[np.uint8] = _scratch("levels", features.numel(), torch.uint8).numpy().reshape(features.shape)
    rows = min(len(features), max(1, _BLOCK // features[0].numel()))
    scratch = _scratch("block", rows * features[0].numel(), torch.float32).view(rows, *features.shape[1:])
    for start in range(0, len(features), rows):
        block = features[start : start + rows]
        nearest = torch.sub(block, low, out=scratch[: len(block)])
        nearest.mul_(steps_per_unit).add_(0.5).clamp_(0, top + 0.5)
        # numpy turns floats into bytes five times faster than torch does; both cut towards zero.
        np.copyto(levels[start : start + rows], nearest.numpy(), casting="unsafe")
    return levels.reshape(-1)


def _scratch(name: str, count: int, dtype: torch.dtype) -> Tensor:
    """`[count]` of a buffer that the thread keeps: fresh megabytes for each chunk cost as much as
    quantising them.
    """
    buffer: Tensor | None = getattr(_THREAD, name, None)
    if buffer is None or buffer.numel() < count:
        buffer = torch.empty(count, dtype=dtype)
        setattr(_THREAD, name, buffer)
    return buffer[:count]
