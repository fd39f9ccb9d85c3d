"""torchvision's way to draw a rectangle: ten tries for its area and its shape, the first that fits is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ...errors import ArgumentError

__all__ = ["NUMBERS", "Windows", "check_ranges", "draw_numbers", "windows"]

_TRIES = 10
NUMBERS = 2 * _TRIES + 2
"""Random numbers a rectangle: areas, shapes, and the vertical and horizontal place of its corner."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Rectangles in n images, vertical axis first, in pixels.

    Attributes:
        found: [n] bool: one of the tries fits; the others hold nothing of use where it is False.
        corner: [n, 2] int64, top left.
        extent: [n, 2] int64, height and width.
    """

    found: Tensor
    corner: Tensor
    extent: Tensor


def draw_numbers(n: int, generator: Generator | None) -> Tensor:
    """[n, NUMBERS] float32 from 0 to below 1, drawn before any size is known; as many bits as torchvision draws."""
    return torch.rand(n, NUMBERS, generator=generator)


def check_ranges(name: str, scale: Sequence[float], ratio: Sequence[float]) -> None:
    """Raise ArgumentError unless both are (low, high), of areas from 0 and of shapes above 0."""
    if len(scale) != 2 or not 0 <= scale[0] <= scale[1]:
        raise ArgumentError(f"{name}: scale must be (low, high) shares of the area, 0 or more, got {tuple(scale)}")
    if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
        raise ArgumentError(f"{name}: ratio must be (low, high), above 0, got {tuple(ratio)}")


def windows(
    numbers: Tensor,
    scale: Sequence[float],
    ratio: Sequence[float],
    sizes: Tensor,
    *,
    ratio_of: str,
    whole: bool,
) -> Windows:
    """What numbers [n, NUMBERS] come to in images of the sizes [n, 2].

    Args:
        ratio_of: "width" over height, or "height" over width.
        whole: a window may be as large as the image, but not empty; else it is smaller along both axes, or empty.
    """
    # Single images come here one by one, and numpy is quicker with so little to do.
    drawn, image = numbers.numpy().astype(np.float64), sizes.numpy()
    areas = image.prod(1)[:, None] * _between(drawn[:, :_TRIES], *scale)
    shapes = np.exp(_between(drawn[:, _TRIES : 2 * _TRIES], math.log(ratio[0]), math.log(ratio[1])))
    sides = [np.rint(np.sqrt(areas / shapes)), np.rint(np.sqrt(areas * shapes))]
    extents = np.stack(sides if ratio_of == "width" else sides[::-1], -1)
    room = image[:, None] - extents
    fits = ((room >= 0) & (extents > 0) if whole else room > 0).all(-1)
    found = fits.any(1)
    extent = np.where(found[:, None], extents[np.arange(len(fits)), fits.argmax(1)], 0).astype(np.int64)
    place = np.where(found[:, None], drawn[:, 2 * _TRIES :], 0)
    corner = np.floor(place * (image - extent + 1)).astype(np.int64)
    return Windows(torch.from_numpy(found), torch.from_numpy(corner), torch.from_numpy(extent))


def _between(numbers: np.ndarray[Any, np.dtype[np.float64]], low: float, high: float) -> Any:
    return low + numbers * (high - low)
