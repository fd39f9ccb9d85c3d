"""Turning, shifting, scaling and shearing images, and their features' grid with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from ...errors import ArgumentError
from .functional import kernels, size_of
from .warps import Warp, middle, turned, uniform

__all__ = ["Affine"]

Range = tuple[float, float]


@dataclass(frozen=True)
class Affine(Warp):
    """A random affine map, as torchvision's RandomAffine; see `Warp` for the other arguments.

    Params: [n, 6] float64: angle in degrees (with the clock), shift to the right and downwards as shares of width and
        height, scale, and the two shears in degrees.

    Args:
        degrees: from the least to the greatest angle.
        translate: the greatest shift, as shares of width and height.
        scale: from the least to the greatest scale.
        shear_x, shear_y: from the least to the greatest angle of shear along each axis.
        centre: (x, y) in pixels from the top left corner; None is the image's own.

    Raises:
        ArgumentError: ranges that are none, or a scale that is not above 0.
    """

    degrees: Range
    translate: tuple[float, float] = (0.0, 0.0)
    scale: Range = (1.0, 1.0)
    shear_x: Range = (0.0, 0.0)
    shear_y: Range = (0.0, 0.0)
    centre: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("degrees", "scale", "shear_x", "shear_y"):
            given = getattr(self, name)
            if len(given) != 2 or given[0] > given[1] or (name == "scale" and given[0] <= 0):
                above = ", above 0" if name == "scale" else ""
                raise ArgumentError(f"Affine: {name} must be (low, high){above}, got {given!r}")

    @property
    def _ranges(self) -> tuple[Range, ...]:
        right, down = self.translate
        return (self.degrees, (-right, right), (-down, down), self.scale, self.shear_x, self.shear_y)

    @property
    def is_random(self) -> bool:
        return any(low < high for low, high in self._ranges)

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.stack([uniform(n, low, high, generator) for low, high in self._ranges], 1)

    def still(self, n: int) -> Tensor:
        least = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
        held = [min(max(low, value), high) for value, (low, high) in zip(least, self._ranges, strict=True)]
        return torch.tensor(held, dtype=torch.float64).repeat(n, 1)

    def shifts(self, params: Tensor, sizes: Tensor) -> Tensor:
        """[n, 2] float64 (vertical, horizontal), whole pixels, for images of the sizes [n, 2]."""
        return (params[:, [2, 1]].double() * sizes).round()

    def on_item(self, item: Any, params: Tensor) -> Any:
        return kernels(self.version).affine(
            item,
            **self._moves(params, size_of(item)),
            interpolation=self.interpolation,
            center=None if self.centre is None else list(self.centre),
            fill=self.fill_for(item),
        )

    def v2_params(self, params: Tensor, size: tuple[int, int]) -> dict[str, Any] | None:
        return self._moves(params, torch.tensor([size]))

    def _moves(self, params: Tensor, sizes: Tensor) -> dict[str, Any]:
        """One row of params [k] as torchvision's kernels take it, for an image of the sizes [1, 2]."""
        down, right = self.shifts(params[None], sizes)[0].tolist()
        angle, _, _, scale, *shear = params.tolist()
        return {"angle": angle, "translate": [int(right), int(down)], "scale": scale, "shear": shear}

    def maps(self, params: Tensor, sizes: Tensor) -> Tensor:
        angle, shear_x, shear_y = params[:, [0, 4, 5]].double().deg2rad().unbind(1)
        scale = params[:, 3].double()
        # From the input to the output, on (x, y), but for the scale: [[a, b], [c, d]], of determinant 1.
        a, c = (angle - shear_y).cos() / shear_y.cos(), (angle - shear_y).sin() / shear_y.cos()
        b, d = -a * shear_x.tan() - angle.sin(), -c * shear_x.tan() + angle.cos()
        linear = [[a / scale, -c / scale], [-b / scale, d / scale]]
        return turned(linear, middle(sizes, self.centre), sizes, self.shifts(params, sizes))
