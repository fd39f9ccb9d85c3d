"""Linear quantisation with one step for all channels of a chunk.

The body of the frame, little-endian, C channels, one byte a level:

    low   float32[C] | scale float32[C] | levels uint8
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hoarfrost.codecs.base import Codec, Packed, register
from hoarfrost.codecs.features import check_shape
from hoarfrost.codecs.frame import squeeze, unsqueeze
from hoarfrost.codecs.quantising import in_float32, quantise, quantising_bound, step_of
from hoarfrost.errors import CodecError

__all__ = ["Shared"]


@register
@dataclass(frozen=True)
class Shared(Codec):
    """One step for all channels of a chunk: the widest channel has `levels` levels, narrower ones fewer.

    A channel of small range then takes few bits instead of as many as the widest. Each channel's step is the
    common one, or the little finer one that divides its range, so that both ends of the range are levels: the
    zeros behind a ReLU stay zeros, and nothing leaves the range. `levels` need not be a power of two: zstd's
    entropy coder knows nothing of whole bits per channel.

    Raises:
        CodecError: `levels` is not 2 to 256.
    """

    levels: int
    name: ClassVar[str] = "shared"

    def __post_init__(self) -> None:
        if isinstance(self.levels, bool) or not isinstance(self.levels, int) or not 2 <= self.levels <= 256:
            raise CodecError(f"Shared takes 2 to 256 levels, not {self.levels!r}")

    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        features, low, high = in_float32(features, channel_axis)
        tops = self._tops(low, high)
        scale = step_of(low, high, tops)
        head = torch.cat([low, scale]).cpu().numpy().astype("<f4").view(np.uint8)
        body = np.concatenate([head, quantise(features, low, scale, tops, channel_axis)])
        return squeeze(body.data)

    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        check_shape(shape, dtype, channel_axis)
        channels = shape[channel_axis]
        body = unsqueeze(payload, 8 * channels + prod(shape))
        low, scale = torch.frombuffer(body, dtype=torch.float32, count=2 * channels).clone().view(2, channels)
        values = torch.frombuffer(body, dtype=torch.uint8, offset=8 * channels).view(*shape)
        return Packed(values, scale, low, dtype, channel_axis)

    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        return quantising_bound(features, channel_axis, self._tops)

    def _tops(self, low: Tensor, high: Tensor) -> Tensor:
        """The highest level of each channel, `[C]`, from 1 for the narrowest to `levels - 1` for the widest."""
        span = high.double() - low.double()
        share = span / span.amax().clamp(min=torch.finfo(torch.float64).tiny)
        return (share * (self.levels - 1)).ceil().clamp(1, self.levels - 1).float()
