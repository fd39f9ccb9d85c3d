"""torchvision's functions, of the version that a user's transform comes from: their last bits differ."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
import torchvision.transforms.functional as v1
import torchvision.transforms.v2.functional as v2
from torch import Tensor
from torchvision.transforms import InterpolationMode

__all__ = ["Interpolation", "Version", "chosen", "kernels", "size_of"]

Interpolation: TypeAlias = InterpolationMode | str | int
Version = Literal["v1", "v2"]


def kernels(version: Version) -> Any:
    """The module of functions."""
    return v1 if version == "v1" else v2


def size_of(item: Any) -> Tensor:
    """[1, 2] int64: height and width of one image."""
    return torch.tensor([v2.get_size(item)])


def chosen(interpolation: Interpolation | tuple[Interpolation, ...], number: Tensor) -> Interpolation:
    """One of several interpolations by a number from 0 to below 1; the only one where there are not several."""
    if not isinstance(interpolation, tuple):
        return interpolation
    return interpolation[min(int(float(number) * len(interpolation)), len(interpolation) - 1)]
