"""Turning images, and their features' grid with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from ...errors import ArgumentError
from .functional import kernels
from .warps import Warp, middle, turned, uniform

__all__ = ["Rotation"]


@dataclass(frozen=True)
class Rotation(Warp):
    """A turn by a random angle, as torchvision's RandomRotation without expand; see `Warp` for the other arguments.

    Params: [n, 1] float64, the angle in degrees, against the clock.

    Args:
        degrees: from the least to the greatest angle.
        centre: (x, y) in pixels from the top left corner; None is the image's own.

    Raises:
        ArgumentError: degrees that are no range.
    """

    degrees: tuple[float, float]
    centre: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if len(self.degrees) != 2 or self.degrees[0] > self.degrees[1]:
            raise ArgumentError(f"Rotation: degrees must be (low, high), got {self.degrees!r}")

    @property
    def is_random(self) -> bool:
        return self.degrees[0] < self.degrees[1]

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        return uniform(n, *self.degrees, generator)[:, None]

    def still(self, n: int) -> Tensor:
        return torch.full((n, 1), min(max(0.0, self.degrees[0]), self.degrees[1]), dtype=torch.float64)

    def on_item(self, item: Any, params: Tensor) -> Any:
        return kernels(self.version).rotate(
            item,
            float(params[0]),
            interpolation=self.interpolation,
            center=None if self.centre is None else list(self.centre),
            fill=self.fill_for(item),
        )

    def v2_params(self, params: Tensor, size: tuple[int, int]) -> dict[str, Any] | None:
        return {"angle": float(params[0])}

    def maps(self, params: Tensor, sizes: Tensor) -> Tensor:
        # Rounded as in PIL, so that a quarter turn is one.
        angle = params[:, 0].double().deg2rad()
        cos, sin = (part.round(decimals=15) for part in (angle.cos(), angle.sin()))
        return turned([[cos, sin], [-sin, cos]], middle(sizes, self.centre), sizes)
