"""Linear quantisation between each channel's least and largest value.

The body of the frame, little-endian, C channels, L levels of `bits` bits (see `bits.py`):

    low   float32[C] | scale float32[C] | levels, packed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CodecError
from .base import Codec, register
from .bits import pack_levels, packed_size, unpack_levels
from .features import check_shape
from .frame import squeeze, unsqueeze
from .packed import Packed
from .quantising import in_float32, quantise, quantising_bound, step_of

__all__ = ["Linear"]


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
        features, low, high = in_float32(features, channel_axis)
        scale = step_of(low, high, self.top)
        head = torch.cat([low, scale]).cpu().numpy().astype("<f4").view(np.uint8)
        levels = quantise(features, low, scale, self.top, channel_axis)
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
        return quantising_bound(features, channel_axis, lambda low, high: (step_of(low, high, self.top), self.top))
