"""What an augmentation must offer to have a form on images and one on features."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from torch import Generator, Tensor

from hoarfrost.augment.derivation import Border, Grid, move_cells
from hoarfrost.augment.placement import Placement, as_sizes
from hoarfrost.errors import ArgumentError

__all__ = ["Paired"]


class Paired(ABC):
    """A random augmentation on images and on features, whose decisions are data that is drawn beforehand.

    Law: for a prefix that is the identity, `on_features(x, params, grid)` equals `on_images(x, params)` (with
    a constant fill of 0 and the border "zeros"); for a convolution it does so where the algebra says so: away
    from the borders, for shifts by whole strides, for flips if the kernel is symmetric.
    """

    @property
    @abstractmethod
    def is_random(self) -> bool:
        """Whether two samples can get different decisions."""

    @abstractmethod
    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Decisions for n samples: [n, k] int64. They do not depend on the images' sizes."""

    @abstractmethod
    def still(self, n: int) -> Tensor:
        """Decisions [n, k] that change least: no flip, the window in the middle."""

    @abstractmethod
    def on_images(self, images: Tensor, params: Tensor) -> Tensor:
        """[n, ..., H, W] of any dtype -> [n, ..., H', W'], the i-th image under the i-th row of params."""

    @abstractmethod
    def on_item(self, item: Any, params: Tensor) -> Any:
        """One PIL image or tensor [..., H, W] under one row of params [k], by torchvision's own functions."""

    @abstractmethod
    def place(self, params: Tensor, sizes: Tensor) -> tuple[Placement, Tensor]:
        """Where the output's pixels lie in images of the sizes [n, 2], and the output's sizes [n, 2]."""

    def on_features(self, features: Tensor, params: Tensor, grid: Grid, border: Border = "zeros") -> Tensor:
        """The same decisions on features: see `derive`.

        Args:
            features: [n, C, h, w] or [n, T, D], as the grid says.
            params: [n, k], from `sample`.
            grid: how the features lie over the images that went into the prefix.
            border: what cells get that the images did not show: see `derive`.

        Raises:
            ArgumentError: features that do not fit the grid, or another number of params.
        """
        check_rows(type(self).__name__, features, params)
        placement, sizes = self.place(params.cpu(), as_sizes(grid.image_size, len(params)))
        # One size for all samples, since the grid has one. The tolerance keeps 28 / (28 / 7) at 7 cells.
        height, width = (
            (math.ceil(int(side) / stride - 1e-6) for side, stride in zip(sizes[0], grid.stride, strict=True))
            if len(params)
            else grid.feature_size
        )
        return move_cells(features, placement, grid, (height, width), border)


def check_rows(name: str, batch: Tensor, params: Tensor) -> None:
    """Raise ArgumentError unless params [n, k] has a row for each of the batch's samples."""
    if params.ndim != 2 or len(params) != len(batch):
        raise ArgumentError(
            f"{name}: params must be [{len(batch)}, k], a row for each sample, got {list(params.shape)}"
        )


def check_images(name: str, images: Tensor, params: Tensor) -> None:
    """Raise ArgumentError unless images is a batch of images with a row of params for each."""
    if images.ndim < 3:
        raise ArgumentError(f"{name}: images must be [n, ..., H, W], got {list(images.shape)}")
    check_rows(name, images, params)
