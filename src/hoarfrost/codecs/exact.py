"""The codec that changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from .base import Codec, register
from .features import array_bytes, channel_range, check_features, check_shape
from .frame import squeeze, unsqueeze
from .packed import Packed

__all__ = ["Exact"]


@register
@dataclass(frozen=True)
class Exact(Codec):
    """Every bit kept, of integers too. Zeros behind a ReLU still compress; what does not compress stays as it is."""

    name: ClassVar[str] = "exact"

    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        features = check_features(features, channel_axis, any_dtype=True)
        if features.is_floating_point():
            channel_range(features, channel_axis)
        return squeeze(array_bytes(features))

    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        check_shape(shape, dtype, channel_axis, any_dtype=True)
        body = unsqueeze(payload, prod(shape) * dtype.itemsize)
        values = torch.frombuffer(body, dtype=dtype).view(*shape)
        return Packed(values, None, None, dtype, channel_axis)

    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        features = check_features(features, channel_axis, any_dtype=True)
        return torch.zeros(features.shape[channel_axis], dtype=torch.float64)
