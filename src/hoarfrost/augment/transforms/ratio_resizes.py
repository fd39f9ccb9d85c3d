"""Resizing to fit a size, the shape kept but for what is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from torchvision.transforms import functional

from ..geometry.placement import Placement
from .functional import Interpolation, chosen, size_of
from .paired import Paired

__all__ = ["RatioResize"]


@dataclass(frozen=True)
class RatioResize(Paired):
    """timm's ResizeKeepRatio: scaled to fit a size, at random by a further factor, and at random out of shape.

    Params: [n, 5] float64 from 0 to below 1: whether and how it is scaled, whether and how its shape changes, and which
        of the interpolations is taken; NaN where nothing is changed.

    Args:
        size: height and width that are to be met.
        longest: 0 to meet the first of them, 1 the last, and between.
        interpolation: one, or several of which one is drawn.
        scale_p, scale: probability, and the range of the factor.
        scale_area: the factor is a share of the area that is left, so that a smaller one shows more.
        shape_p, shape: probability, and the range of the change of width over height.
    """

    size: tuple[int, int]
    longest: float = 0.0
    interpolation: Interpolation | tuple[Interpolation, ...] = "bilinear"
    scale_p: float = 0.0
    scale: tuple[float, float] = (0.85, 1.05)
    scale_area: bool = False
    shape_p: float = 0.0
    shape: tuple[float, float] = (0.9, 1.11)

    varies_size: ClassVar[bool] = True

    @property
    def is_random(self) -> bool:
        several = isinstance(self.interpolation, tuple) and len(self.interpolation) > 1
        return self.scale_p > 0 or self.shape_p > 0 or several

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.rand(n, 5, generator=generator, dtype=torch.float64)

    def still(self, n: int) -> Tensor:
        numbers = torch.full((n, 5), float("nan"), dtype=torch.float64)
        numbers[:, 4] = 0
        return numbers

    def resized(self, params: Tensor, sizes: Tensor) -> Tensor:
        """[n, 2] int64: height and width that images of the sizes [n, 2] get."""
        rows = zip(params.tolist(), sizes.tolist(), strict=True)
        return torch.tensor([self._resized(numbers, size) for numbers, size in rows], dtype=torch.int64).view(-1, 2)

    def on_item(self, item: Any, params: Tensor) -> Any:
        size = self.resized(params[None], size_of(item))[0].tolist()
        return functional.resize(item, size, chosen(self.interpolation, params[-1]))

    def place(self, params: Tensor, sizes: Tensor) -> tuple[Placement, Tensor]:
        after = self.resized(params, sizes)
        return Placement.window(torch.zeros_like(sizes), sizes, after), after

    def _resized(self, numbers: list[float], size: list[int]) -> list[int]:
        # Step by step as timm does, since a rounding may decide on a pixel.
        scaled, scale, reshaped, shape, _ = numbers
        ratios = [side / target for side, target in zip(size, self.size, strict=True)]
        ratio = max(ratios) * self.longest + min(ratios) * (1.0 - self.longest)
        factors = (1.0, 1.0)
        if scaled < self.scale_p:
            factor = self.scale[0] + (self.scale[1] - self.scale[0]) * scale
            factor = 1.0 / math.sqrt(factor) if self.scale_area else factor
            factors = (factor, factor)
        if reshaped < self.shape_p:
            low, high = (math.log(end) for end in self.shape)
            change = math.sqrt(math.exp(low + (high - low) * shape))
            factors = (factors[0] / change, factors[1] * change)
        return [round(side * factor / ratio) for side, factor in zip(size, factors, strict=True)]
