"""Cropping a window of random size and shape and resizing it, and the zoom of the features that belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torchvision.transforms import InterpolationMode

from ...errors import ArgumentError
from ..geometry.placement import Placement, as_sizes
from .functional import Interpolation, Version, chosen, kernels, size_of
from .paired import Paired
from .rectangles import NUMBERS, check_ranges, draw_numbers, windows

__all__ = ["ResizedCrop"]


@dataclass(frozen=True)
class ResizedCrop(Paired):
    """A random window of random area and shape, resized: torchvision's RandomResizedCrop.

    Params: [n, 22] random numbers from 0 to 1, which become a window only when the image's size is known (`windows`);
        NaN asks for the window that torchvision falls back to, the largest in the middle. One more number, [n, 23],
        where the interpolation is drawn too.

    Law: for the identity it is exact with the interpolation "nearest-exact"; a bilinear one without antialiasing is met
    by the form "interpolated" away from the window's border.

    Args:
        size: height and width of the output, or one number for both.
        scale: the least and the largest share of the image's area.
        ratio: the least and the largest width over height.
        interpolation, antialias: as torchvision's; of several interpolations one is drawn for each sample.
        version: "v1" or "v2" of torchvision's kernels.

    Raises:
        ArgumentError: a size below 1, or ranges that are none.
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Interpolation | tuple[Interpolation, ...] = InterpolationMode.BILINEAR
    antialias: bool | None = True
    version: Version = "v2"

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: Interpolation | tuple[Interpolation, ...] = InterpolationMode.BILINEAR,
        antialias: bool | None = True,
        version: Version = "v2",
    ) -> None:
        lengths = (size,) if isinstance(size, int) else tuple(int(side) for side in size)
        if len(lengths) not in (1, 2) or min(lengths) < 1:
            raise ArgumentError(f"ResizedCrop: size must be one number or (height, width), at least 1, got {size!r}")
        check_ranges("ResizedCrop", scale, ratio)
        object.__setattr__(self, "size", lengths * (2 // len(lengths)))
        object.__setattr__(self, "scale", (float(scale[0]), float(scale[1])))
        object.__setattr__(self, "ratio", (float(ratio[0]), float(ratio[1])))
        object.__setattr__(self, "interpolation", interpolation)
        object.__setattr__(self, "antialias", antialias)
        object.__setattr__(self, "version", version)

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        numbers = draw_numbers(n, generator)
        if not isinstance(self.interpolation, tuple):
            return numbers
        return torch.cat([numbers, torch.rand(n, 1, generator=generator)], 1)

    def still(self, n: int) -> Tensor:
        numbers = torch.full((n, NUMBERS), float("nan"))
        return torch.cat([numbers, torch.zeros(n, 1)], 1) if isinstance(self.interpolation, tuple) else numbers

    def windows(self, params: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Top left corner, and height and width, of the windows in images of the sizes [n, 2]; [n, 2] each."""
        drawn = windows(params[:, :NUMBERS], self.scale, self.ratio, sizes, ratio_of="width", whole=True)
        if bool(drawn.found.all()):
            return drawn.corner, drawn.extent
        found, middle = drawn.found[:, None], self._largest(sizes)
        return torch.where(found, drawn.corner, (sizes - middle) // 2), torch.where(found, drawn.extent, middle)

    def _largest(self, sizes: Tensor) -> Tensor:
        """[n, 2]: the largest window of an allowed shape."""
        height, width = sizes.double().unbind(1)
        shape = width / height
        low, high = self.ratio
        return torch.stack(
            [
                torch.where(shape < low, (width / low).round(), height),
                torch.where(shape > high, (height * high).round(), width),
            ],
            1,
        ).to(torch.int64)

    def on_item(self, item: Any, params: Tensor) -> Any:
        corner, extent = self.windows(params[None], size_of(item))
        window = [*corner[0].tolist(), *extent[0].tolist()]
        crop = kernels(self.version).resized_crop
        return crop(item, *window, list(self.size), chosen(self.interpolation, params[-1]), antialias=self.antialias)

    def v2_params(self, params: Tensor, size: tuple[int, int]) -> dict[str, Any] | None:
        corner, extent = self.windows(params[None], torch.tensor([size]))
        (top, left), (height, width) = corner[0].tolist(), extent[0].tolist()
        return {"top": top, "left": left, "height": height, "width": width}

    def place(self, params: Tensor, sizes: Tensor) -> tuple[Placement, Tensor]:
        size = as_sizes(self.size, len(params))
        return Placement.window(*self.windows(params, sizes), size), size
