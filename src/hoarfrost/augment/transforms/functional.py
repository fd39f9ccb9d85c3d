"""torchvision's functions, of the version that a user's transform comes from: their last bits differ."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torchvision.transforms.functional as v1
import torchvision.transforms.v2.functional as v2
from torch import Tensor

__all__ = ["Version", "kernels", "size_of"]

Version = Literal["v1", "v2"]


def kernels(version: Version) -> Any:
    """The module of functions."""
    return v1 if version == "v1" else v2


def size_of(item: Any) -> Tensor:
    """[1, 2] int64: height and width of one image."""
    return torch.tensor([v2.get_size(item)])
