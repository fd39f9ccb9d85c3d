"""A random window of images that are larger than it, a random place in it for those that are smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torchvision.transforms import functional

from ..geometry.placement import Placement, as_sizes
from .filling import filling
from .functional import size_of
from .paired import Paired

__all__ = ["CropOrPad"]

_BITS = 31


@dataclass(frozen=True)
class CropOrPad(Paired):
    """timm's RandomCropOrPad; with crop=False its RandomPad, which leaves larger images as they are.

    Params: [n, 2], 31 random bits for the vertical and for the horizontal place.

    Args:
        size: height and width of the output, with crop=False the least.
        fill: of constant padding, one value or one a channel, in the images' own unit.
        padding_mode: as torchvision's.
        crop: whether larger images are cropped.
    """

    size: tuple[int, int]
    fill: float | tuple[float, ...] = 0
    padding_mode: str = "constant"
    crop: bool = True

    @property
    def fills(self) -> bool:
        return self.padding_mode == "constant"

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.randint(0, 1 << _BITS, (n, 2), generator=generator, dtype=torch.int64)

    def still(self, n: int) -> Tensor:
        return torch.full((n, 2), 1 << (_BITS - 1), dtype=torch.int64)

    def offsets(self, params: Tensor, sizes: Tensor) -> Tensor:
        """[n, 2]: the output's top left corner in images of the sizes [n, 2]; negative where they are padded."""
        room = sizes - torch.tensor(self.size)
        placed = ((params * (room.abs() + 1)) >> _BITS) * room.sign()
        return placed if self.crop else placed.clamp(max=0)

    def on_item(self, item: Any, params: Tensor) -> Any:
        sizes = size_of(item)
        top, left = self.offsets(params[None], sizes)[0].tolist()
        height, width = self._after(sizes)[0].tolist()
        below, right = (side - int(had) for side, had in zip((top + height, left + width), sizes[0], strict=True))
        margins = [max(-left, 0), max(-top, 0), max(right, 0), max(below, 0)]
        if any(margins):
            item = functional.pad(item, margins, fill=self.fill, padding_mode=self.padding_mode)
        return functional.crop(item, max(top, 0), max(left, 0), height, width)

    def place(self, params: Tensor, sizes: Tensor) -> tuple[Placement, Tensor]:
        return Placement.shifted(self.offsets(params, sizes)), self._after(sizes)

    def blank(self, images: Tensor) -> Tensor:
        return torch.zeros_like(images) + filling("CropOrPad", self.fill, images)

    def _after(self, sizes: Tensor) -> Tensor:
        size = as_sizes(self.size, len(sizes))
        return size if self.crop else torch.maximum(size, sizes)
