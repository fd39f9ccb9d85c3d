"""Images held in memory, with the manners of a torchvision data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch.utils.data import Dataset

from ..errors import ArgumentError, DatasetError

__all__ = ["ImageArray"]


class ImageArray(Dataset[tuple[Any, int]]):
    """A data set of equally large images in memory; items are `(PIL image, target)`.

    `transform`, `targets` and `classes` mean what they mean in torchvision, and may be set later.

    Args:
        images: unsigned bytes, [N, H, W] in grey or [N, H, W, 3] in colour.
        targets: [N] class numbers.
        classes: the classes' names.
        transform: called with each PIL image.

    Raises:
        DatasetError: there are no images, or not as many targets as images.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        targets: npt.NDArray[np.integer[Any]],
        classes: Sequence[str],
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if len(images) == 0:
            raise DatasetError("an image data set needs at least one image, got none")
        if len(images) != len(targets):
            raise DatasetError(f"there are {len(images)} images but {len(targets)} targets")
        self.images = images
        self.targets: list[int] = [int(target) for target in targets]
        self.classes = list(classes)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image: Any = Image.fromarray(self.images[index])
        if self.transform is not None:
            image = self.transform(image)
        return image, self.targets[index]

    def first(self, samples: int) -> ImageArray:
        """The first samples as a data set of their own; the embedded data are balanced in every ten.

        Raises:
            ArgumentError: `samples` is not between 1 and the length.
        """
        if not 1 <= samples <= len(self):
            raise ArgumentError(f"first({samples}): the data set has {len(self)} samples, ask for 1 to {len(self)}")
        return ImageArray(self.images[:samples], np.asarray(self.targets[:samples]), self.classes, self.transform)
