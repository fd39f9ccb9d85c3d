"""The codec that rounds to float16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Codec, register
from .packed import Packed
from .rounding import encode_as, rounding_bound, unpack_as

__all__ = ["Half"]


@register
@dataclass(frozen=True)
class Half(Codec):
    """The features as float16: 11 bits of precision, up to 65504. Values beyond are refused, never made
    infinite.
    """

    name: ClassVar[str] = "half"

    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        return encode_as(torch.float16, features, channel_axis)

    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        return unpack_as(torch.float16, payload, shape, dtype, channel_axis)

    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        return rounding_bound(torch.float16, features, channel_axis)
