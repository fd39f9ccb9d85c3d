"""Linear quantisation within an error that is told.

The frame is that of `Shared`, with as many levels as each chunk takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import CodecError
from .base import Codec, register
from .features import channel_range, check_features
from .packed import Packed
from .shared import Shared

__all__ = ["Bounded"]

MOST = 256


@register
@dataclass(frozen=True)
class Bounded(Codec):
    """Steps of at most `2 * error`, so that no value comes back further off than `error`, and float rounding.

    A chunk of which a channel spans more than 255 such steps has wider ones: `error_bound` says so.

    Args:
        error: the largest, in the features' own unit.

    Raises:
        CodecError: `error` is no number above 0.
    """

    error: float
    name: ClassVar[str] = "bounded"

    def __post_init__(self) -> None:
        told = self.error
        if isinstance(told, bool) or not isinstance(told, int | float) or not isfinite(told) or told <= 0:
            raise CodecError(f"Bounded takes an error above 0, in the features' own unit, not {str(told)[:40]}")
        object.__setattr__(self, "error", float(told))

    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        return self._of(features, channel_axis).encode(features, channel_axis)

    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        # The frame says how wide its steps are.
        return Shared(MOST).unpack(payload, shape, dtype, channel_axis)

    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        return self._of(features, channel_axis).error_bound(features, channel_axis)

    def _of(self, features: Tensor, channel_axis: int) -> Shared:
        low, high = channel_range(check_features(features, channel_axis), channel_axis)
        steps = float((high.double() - low.double()).max()) / (2 * self.error)
        return Shared(ceil(steps) + 1 if 1 < steps < MOST - 1 else 2 if steps <= 1 else MOST)
