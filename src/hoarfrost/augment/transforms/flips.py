"""Mirroring images and their features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional

from ...errors import ArgumentError
from ..geometry.placement import Placement
from .paired import Paired, check_images

__all__ = ["HorizontalFlip", "VerticalFlip"]


@dataclass(frozen=True)
class _Flip(Paired):
    p: float = 0.5

    copies_pixels: ClassVar[bool] = True
    axis: ClassVar[int]

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ArgumentError(f"{type(self).__name__}: p must be a probability from 0 to 1, got {self.p!r}")

    @property
    def is_random(self) -> bool:
        return 0 < self.p < 1

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        return (torch.rand(n, 1, generator=generator) < self.p).to(torch.int64)

    def still(self, n: int) -> Tensor:
        return torch.zeros(n, 1, dtype=torch.int64)

    def on_images(self, images: Tensor, params: Tensor) -> Tensor:
        check_images(type(self).__name__, images, params)
        flipped = params[:, 0].nonzero()[:, 0].to(images.device)
        if len(flipped) == len(images):
            return images.flip(self.axis - 2)
        return images.index_copy(0, flipped, images[flipped].flip(self.axis - 2)) if len(flipped) else images

    def on_item(self, item: Any, params: Tensor) -> Any:
        flip = functional.horizontal_flip if self.axis else functional.vertical_flip
        return flip(item) if int(params[0]) else item

    def v2_params(self, params: Tensor, size: tuple[int, int]) -> dict[str, Any] | None:
        return {} if int(params[0]) else None

    def place(self, params: Tensor, sizes: Tensor) -> tuple[Placement, Tensor]:
        sign, shift = torch.ones_like(sizes), torch.zeros_like(sizes)
        sign[:, self.axis] -= 2 * params[:, 0]
        shift[:, self.axis] = params[:, 0] * (sizes[:, self.axis] - 1)
        return Placement.shifted(shift, sign), sizes


@dataclass(frozen=True)
class HorizontalFlip(_Flip):
    """Left and right exchanged with probability p, as torchvision's RandomHorizontalFlip.

    Params: [n, 1], 1 where flipped. On features the grid is mirrored, which is exact as far as the
    prefix's kernels are symmetric.

    Raises:
        ArgumentError: p outside 0 to 1.
    """

    axis: ClassVar[int] = 1


@dataclass(frozen=True)
class VerticalFlip(_Flip):
    """Top and bottom exchanged with probability p, as RandomVerticalFlip; see HorizontalFlip."""

    axis: ClassVar[int] = 0
