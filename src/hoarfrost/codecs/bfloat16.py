"""The codec that rounds to bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Codec, register
from .packed import Packed
from .rounding import encode_as, rounding_bound, unpack_as

__all__ = ["BFloat16"]


@register
@dataclass(frozen=True)
class BFloat16(Codec):
    """The features as bfloat16: 8 bits of precision, float32's range. Values beyond are refused, never
    made infinite.
    """

    name: ClassVar[str] = "bfloat16"

    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        return encode_as(torch.bfloat16, features, channel_axis)

    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        return unpack_as(torch.bfloat16, payload, shape, dtype, channel_axis)

    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        return rounding_bound(torch.bfloat16, features, channel_axis)
