"""What rotations, affine maps and perspectives share: torchvision's kernels, their interpolation and their fill."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from ..geometry.placement import Placement
from .filling import filling
from .functional import Version
from .paired import Paired

__all__ = ["Warp", "middle", "turned", "uniform"]


@dataclass(frozen=True)
class Warp(Paired):
    """A projective map of the image onto itself.

    Law: for the identity the form "cells" is exact where interpolation is "nearest" and no pixel comes to lie on the
    edge between two; the form "interpolated" meets a bilinear one away from the border.

    Args:
        interpolation: as torchvision's, between pixels.
        fill: of what the image does not reach, one value or one a channel, in the images' own unit; None is 0.
        version: "v1" or "v2" of torchvision's kernels.
    """

    _: KW_ONLY
    interpolation: InterpolationMode | str | int = InterpolationMode.NEAREST
    fill: float | Sequence[float] | None = 0
    version: Version = "v2"

    @property
    def fills(self) -> bool:
        return True

    @abstractmethod
    def on_item(self, item: Any, params: Tensor) -> Any: ...

    @abstractmethod
    def maps(self, params: Tensor, sizes: Tensor) -> Tensor:
        """[n, 3, 3] on points (y, x, 1), from the output to images of the sizes [n, 2]."""

    def place(self, params: Tensor, sizes: Tensor) -> tuple[Placement, Tensor]:
        return Placement(self.maps(params, sizes)), sizes

    def blank(self, images: Tensor) -> Tensor:
        return torch.zeros_like(images) + filling(type(self).__name__, self.fill or 0, images)

    def fill_for(self, item: Any) -> Any:
        """The fill as the kernels take it for this image."""
        if self.fill is None or (isinstance(self.fill, (int, float)) and self.version == "v2"):
            return self.fill
        if isinstance(self.fill, (int, float)):
            return [float(self.fill)] * functional.get_num_channels(item) if isinstance(item, Tensor) else self.fill
        if self.version == "v1" and not isinstance(item, Tensor):
            return self.fill
        return [float(value) for value in self.fill]


def uniform(n: int, low: float, high: float, generator: Generator | None) -> Tensor:
    """[n] float64, evenly from low to high; exactly low where both are equal."""
    return low + torch.rand(n, generator=generator, dtype=torch.float64) * (high - low)


def middle(sizes: Tensor, centre: Sequence[float] | None) -> Tensor:
    """[n, 2] (y, x): a centre given as (x, y), or that of images of the sizes [n, 2]."""
    if centre is None:
        return sizes.double() / 2
    return torch.tensor([centre[1], centre[0]], dtype=torch.float64).expand(len(sizes), 2)


def turned(linear: Sequence[Sequence[Tensor]], centre: Tensor, sizes: Tensor, shift: Tensor | None = None) -> Tensor:
    """[n, 3, 3] of a linear map [2][2] of [n], on (y, x), that leaves a centre [n, 2] in place, behind a shift."""
    (a, b), (c, d) = linear
    y, x = centre.unbind(1)
    v, u = (y, x) if shift is None else (centre + shift).unbind(1)
    nothing = torch.zeros_like(y)
    rows = [[a, b, y - a * v - b * u], [c, d, x - c * v - d * u], [nothing, nothing, nothing + 1]]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)
