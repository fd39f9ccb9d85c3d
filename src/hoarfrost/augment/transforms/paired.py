"""What an augmentation must offer to have a form on images and one on features."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional

from ...errors import ArgumentError
from ..geometry.cells import Form
from ..geometry.derivation import Border, move_cells
from ..geometry.grid import Grid
from ..geometry.placement import Placement, as_sizes

__all__ = ["Paired"]


class Paired(ABC):
    """A random augmentation on images and on features, whose decisions are data that is drawn beforehand.

    One of your own needs three methods: `sample`, one of `on_images` and `on_item`, and `place`. It then fits anywhere
    in a transform, and its form on features follows from where `place` says that its pixels lie:

    ```
    class Slide(Paired):                                            # to the left, by up to 4 pixels
        def sample(self, n, generator=None):
            return torch.randint(0, 5, (n, 1), generator=generator)

        def on_item(self, item, params):
            return F.crop(F.pad(item, [0, 0, 4, 0]), 0, int(params[0]), *F.get_size(item))

        def place(self, params, sizes):
            return Placement.shifted(torch.cat([torch.zeros_like(params), params], dim=1)), sizes
    ```

    Law: for a prefix that is the identity, `on_features(x, params, grid)` equals `on_images(x, params)`: bit by bit
    where pixels are moved as they are, to float tolerance away from the borders where they are interpolated (with
    form="interpolated"), with a constant fill of 0 and the border "zeros". For a convolution it does so where the
    algebra says so: away from the borders, for shifts by whole strides, for flips if the kernel is symmetric.
    """

    copies_pixels: ClassVar[bool] = False
    """Whether `on_images` only moves pixels and fills: then it stands in for PIL's own kernels on PIL images, too."""

    varies_size: ClassVar[bool] = False
    """Whether images of one size can come out in several: then they are moved one by one."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.on_images is Paired.on_images and cls.on_item is Paired.on_item:
            raise ArgumentError(
                f"{cls.__name__}: a paired augmentation defines on_images (a batch of tensors) or on_item (one image)"
            )

    @property
    def is_random(self) -> bool:
        """Whether two samples can get different decisions."""
        return True

    @property
    def fills(self) -> bool:
        """Whether its images can show pixels that are nothing but a constant; then `blank` says which."""
        return False

    @abstractmethod
    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Decisions for n samples: [n, k] of any dtype, a row for each. They do not depend on the images' sizes."""

    def still(self, n: int) -> Tensor:
        """Decisions [n, k] that change least: no flip, the window in the middle. Unless defined, always the same."""
        return self.sample(n, torch.Generator().manual_seed(0))

    def on_images(self, images: Tensor, params: Tensor) -> Tensor:
        """[n, ..., H, W] of any dtype -> [n, ..., H', W'], the i-th image under the i-th row of params."""
        check_images(type(self).__name__, images, params)
        if len(images) == 0:
            return images
        return torch.stack([self.on_item(image, row) for image, row in zip(images, params, strict=True)])

    def on_item(self, item: Any, params: Tensor) -> Any:
        """One PIL image or tensor [..., H, W] under one row of params [k], by torchvision's own functions."""
        if isinstance(item, Tensor):
            return self.on_images(item[None], params[None])[0]
        image = self.on_images(functional.pil_to_tensor(item)[None], params[None])[0]
        return functional.to_pil_image(image, mode=item.mode)

    def __call__(self, item: Any) -> Any:
        """One image under decisions of the moment, so that a transform with it also runs where there is no pipeline."""
        return self.on_item(item, self.sample(1)[0])

    def v2_params(self, params: Tensor, size: tuple[int, int]) -> dict[str, Any] | None:
        """One row of params [k] as torchvision's v2 transform of this kind would have drawn it (its `make_params`).

        Args:
            size: height and width of the sample's image.

        Returns:
            What its `transform` takes; None where the sample stays as it is.

        Raises:
            ArgumentError: torchvision has no transform of this kind; define `on_target`.
        """
        raise ArgumentError(f"{type(self).__name__}: no v2 transform of torchvision has these decisions")

    def on_target(self, target: Any, params: Tensor, size: tuple[int, int]) -> Any:
        """What moves with one image, under its row of params [k]: a mask, boxes or keypoints (`tv_tensors`).

        One of your own defines it where it stands in a joint transform; for torchvision's own v2 transforms their
        kernels are called, and this is not.

        Args:
            size: height and width of the image before this step.

        Raises:
            ArgumentError: not defined.
        """
        raise ArgumentError(
            f"{type(self).__name__} moves images alone, and a {type(target).__name__} has to move with its image: "
            "take torchvision.transforms.v2's transform in its place, or a Paired of your own that defines on_target"
        )

    @abstractmethod
    def place(self, params: Tensor, sizes: Tensor) -> tuple[Placement, Tensor]:
        """Where the output's pixels lie in images of the sizes [n, 2], and the output's sizes [n, 2]."""

    def blank(self, images: Tensor) -> Tensor:
        """Images like the given [n, C, H, W] that hold nothing but the fill."""
        return torch.zeros_like(images)

    def on_features(
        self, features: Tensor, params: Tensor, grid: Grid, border: Border = "zeros", form: Form = "cells"
    ) -> Tensor:
        """The same decisions on features: see `derive`.

        Args:
            features: [n, C, h, w], [n, h, w, C] or [n, T, D], as the grid says.
            params: [n, k], from `sample`.
            grid: how the features lie over the images that went into the prefix.
            border: what cells get that the images did not show: see `derive`.
            form: "cells" or "interpolated": see `derive`.

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
        return move_cells(features, Placement.identity(len(params)), placement, grid, (height, width), border, form)


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
