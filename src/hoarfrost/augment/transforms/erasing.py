"""Erasing a rectangle of images, and the cells of their features that lie in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from ...errors import ArgumentError
from ..geometry.placement import Placement, as_sizes
from .filling import filling
from .paired import Paired, check_images
from .rectangles import NUMBERS, check_ranges, draw_numbers, windows

__all__ = ["Erasing"]


@dataclass(frozen=True)
class Erasing(Paired):
    """A random rectangle overwritten with probability p, as torchvision's RandomErasing with a constant value.

    Params: [n, 23] float32: 1 where something is erased, and 22 random numbers from 0 to 1, which become a rectangle
        when the image's size is known (`rectangles`).

    On features the cells whose centres lie in the rectangle get the border. Of features of an image that was itself
    erased, the cells in its own rectangle are unknown as well. The law holds bit by bit for the identity, a value of 0
    and the border "zeros", and for any other value with that value as the border.

    Args:
        p: probability.
        scale: the least and the largest share of the image's area.
        ratio: the least and the largest height over width.
        value: what is written, one number or one a channel, in the images' own unit.

    Raises:
        ArgumentError: p outside 0 to 1, or ranges that are none.
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float | Sequence[float] = 0.0

    copies_pixels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ArgumentError(f"Erasing: p must be a probability from 0 to 1, got {self.p!r}")
        check_ranges("Erasing", self.scale, self.ratio)

    @property
    def is_random(self) -> bool:
        return self.p > 0

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        erased = (torch.rand(n, 1, generator=generator) < self.p).float()
        return torch.cat([erased, draw_numbers(n, generator)], 1)

    def still(self, n: int) -> Tensor:
        return torch.zeros(n, 1 + NUMBERS)

    def rectangles(self, params: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Top left corner, and height and width, in images of the sizes [n, 2]; [n, 2] each, 0 where none is erased."""
        drawn = windows(params[:, 1:], self.scale, self.ratio, sizes, ratio_of="height", whole=False)
        return drawn.corner, drawn.extent * (drawn.found & (params[:, 0] > 0))[:, None]

    def on_images(self, images: Tensor, params: Tensor) -> Tensor:
        check_images("Erasing", images, params)
        n, size = len(images), (int(images.shape[-2]), int(images.shape[-1]))
        corner, extent = self.rectangles(params.cpu(), as_sizes(size, n))
        covered = [
            (place >= corner[:, axis, None]) & (place < (corner + extent)[:, axis, None])
            for axis, place in enumerate((torch.arange(size[0]), torch.arange(size[1])))
        ]
        mask = (covered[0][:, :, None] & covered[1][:, None, :]).to(images.device)
        # torchvision's value passes through a tensor of the default type.
        value = filling("Erasing", torch.tensor(self.value).tolist(), images)
        return torch.where(mask.view(n, *[1] * (images.ndim - 3), *size), value, images)

    def v2_params(self, params: Tensor, size: tuple[int, int]) -> dict[str, Any] | None:
        corner, extent = self.rectangles(params[None], torch.tensor([size]))
        (i, j), (h, w) = corner[0].tolist(), extent[0].tolist()
        if not h or not w:
            return None
        return {"i": i, "j": j, "h": h, "w": w, "v": torch.tensor(self.value).view(-1, 1, 1)}

    def place(self, params: Tensor, sizes: Tensor) -> tuple[Placement, Tensor]:
        return Placement.erased(*self.rectangles(params, sizes)), sizes
