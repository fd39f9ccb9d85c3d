"""A few of the embedded images, with a plain and a random transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from hoarfrost.data import ImageArray, open_data

NORMALISE = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
PLAIN = v2.Compose(NORMALISE)
RANDOM = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(28, padding=4), *NORMALISE])

_TRAIN = open_data("embedded").train


def images(n: int = 200, transform: Callable[[Any], Any] | None = None) -> ImageArray:
    data = _TRAIN.first(n)
    data.transform = transform
    return data


class CountingImages(ImageArray):
    """Counts how often an image is read."""

    def __init__(self, n: int = 200, transform: Callable[[Any], Any] | None = None) -> None:
        data = images(n, transform)
        super().__init__(data.images, data.targets, data.classes, transform)  # type: ignore[arg-type]
        self.reads = 0

    def __getitem__(self, index: int) -> tuple[Any, int]:
        self.reads += 1
        return super().__getitem__(index)


def batches(count: int = 3, size: int = 8) -> list[Tensor]:
    """Noise in the shape of the images, float32 [size, 1, 28, 28], the same at each call."""
    made = torch.Generator().manual_seed(0)
    return [torch.randn(size, 1, 28, 28, generator=made) for _ in range(count)]
