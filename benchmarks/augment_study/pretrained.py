"""A pretrained network on photographs of several sizes: crops of the photos that scikit-image's wheel carries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import v2

from hoarfrost.models import efficientnet_lite0

from .subjects import PHOTOS, Kind

__all__ = ["PhotoCrops", "PhotoData", "lite", "photo_data"]

SIDES = (80, 144)
"""Pixels of a crop's sides, drawn for each alone, so that hardly two crops have one size."""


class PhotoCrops(Dataset[tuple[Image.Image, int]]):
    """Crops in colour; the class is the photo. Training crops come from its left part, test ones from its right."""

    def __init__(self, samples: int, part: int, seed: int) -> None:
        files = {file.name: file for file in distribution("scikit-image").files or []}
        generator = torch.Generator().manual_seed(seed)
        self.classes = [name.split(".")[0] for name in PHOTOS]
        self.targets = [number % len(PHOTOS) for number in range(samples)]
        photos = []
        for name in PHOTOS:
            with Image.open(str(files[name].locate())) as image:
                width, height = image.size
                half = (0, 0, width // 2, height) if part == 0 else (width // 2, 0, width, height)
                photos.append(image.convert("RGB").crop(half))
        self.images = []
        for target in self.targets:
            photo = photos[target]
            sides = torch.randint(SIDES[0], SIDES[1] + 1, (2,), generator=generator).tolist()
            width, height = (min(side, length) for side, length in zip(sides, photo.size, strict=True))
            left, top = (
                int(torch.randint(0, length - side + 1, (1,), generator=generator))
                for length, side in zip(photo.size, (width, height), strict=True)
            )
            self.images.append(photo.crop((left, top, left + width, top + height)))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.images[index], self.targets[index]


@dataclass(frozen=True)
class PhotoData:
    """What `Study` asks of data. The shorter side is brought to the size; flips, and padded crops of an eighth."""

    train: PhotoCrops
    test: PhotoCrops
    size: int
    channels: int = 3

    @property
    def classes(self) -> int:
        return len(self.train.classes)

    @property
    def transform(self) -> v2.Compose:
        moved = [v2.RandomHorizontalFlip(), v2.RandomCrop(self.size, padding=self.size // 8)]
        return v2.Compose([v2.Resize(self.size, antialias=True), *moved, *_TAIL])

    @property
    def plain(self) -> v2.Compose:
        return v2.Compose([v2.Resize(self.size, antialias=True), v2.CenterCrop(self.size), *_TAIL])


_TAIL: list[Any] = [
    *(v2.ToImage(), v2.ToDtype(torch.float32, scale=True)),
    v2.Normalize([127 / 255] * 3, [128 / 255] * 3),
]


def photo_data(size: int) -> Callable[[int, int, int], PhotoData]:
    """As `subjects.DATA` has it, at so many pixels."""
    return lambda samples, tests, seed: PhotoData(
        PhotoCrops(samples, 0, seed), PhotoCrops(tests, 1, 10_000 + seed), size
    )


def lite(cut: str) -> Kind:
    """EfficientNet-Lite0 with its ImageNet weights, frozen up to a cut."""
    return Kind(
        lambda data: efficientnet_lite0(data.classes, data.channels),
        cut,
        lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4),
    )
