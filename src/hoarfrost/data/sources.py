"""Data by name, as the command line takes it, and the transforms that fit them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Subset
from torchvision.transforms import v2

from ..errors import ArgumentError, DatasetError
from .fashion import embedded, fashion_mnist
from .folders import image_folder

__all__ = ["DATA_NAMES", "Data", "default_transforms", "few", "open_data"]

DATA_NAMES = ("embedded", "fashion-mnist")
"""The names `open_data` knows, besides folders."""

FASHION_STATISTICS = ((0.286,), (0.353,))
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PHOTO_SIZE = 224
LARGEST_SMALL_SIZE = 96


@dataclass(frozen=True)
class Data:
    """Training and test images with what a model has to know of them.

    Both sets give `(PIL image, target)` and have `.transform` (None at first), `.targets` and `.classes`.
    """

    train: Dataset[tuple[Any, int]]
    test: Dataset[tuple[Any, int]]
    classes: tuple[str, ...]
    name: str
    channels: int
    image_size: int
    """Height and width, in pixels, that `default_transforms` gives to the model."""


def open_data(spec: str, seed: int = 0, *, image_size: int | None = None, background: str = "white") -> Data:
    """Open data by name: `"embedded"`, `"fashion-mnist"`, or a folder of images.

    Args:
        spec: a name of `DATA_NAMES`, or a directory as `image_folder` reads it.
        seed: of the division into training and test images, for a folder without a test folder.
        image_size: what the default transforms bring the images to. By default the images' own size if
            they are square, equal (16 are looked at) and no larger than 96 pixels, else 224.
        background: as for `image_folder`.

    Raises:
        ArgumentError: no such name or colour, or `image_size` below 1.
        DatasetError: what is there cannot be used.
    """
    if image_size is not None and image_size < 1:
        raise ArgumentError(f"image_size must be at least 1, got {image_size}")
    if spec in DATA_NAMES:
        source = embedded if spec == "embedded" else fashion_mnist
        fashion = source(train=True)
        return Data(fashion, source(train=False), tuple(fashion.classes), spec, 1, image_size or 28)
    directory = Path(spec).expanduser()
    if not directory.exists() and directory.name == spec:
        near = difflib.get_close_matches(spec, DATA_NAMES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"unknown data {spec!r}: give one of {', '.join(DATA_NAMES)}, or a folder of images{hint}")
    train, test = image_folder(directory, seed=seed, background=background)
    size = image_size or _common_small_size(train) or PHOTO_SIZE
    return Data(train, test, tuple(train.classes), directory.resolve().name, 3, size)


def default_transforms(data: Data) -> tuple[v2.Compose, v2.Compose]:
    """The transforms for training and for test images that fit the data: PIL image -> float [C, H, W].

    Small images (up to 96 pixels) are flipped and cropped from a border of an eighth of zeros (28 pixels: 4
    on each side, rounded up), as is usual for CIFAR; photos get torchvision's ImageNet recipe (random resized
    crop and flip; for test images the shorter side at 256/224 of the size and its middle). Values are
    normalised with the statistics of Fashion-MNIST (mean 0.286, deviation 0.353) or ImageNet.
    """
    size = data.image_size
    grey = data.channels == 1
    mean, deviation = FASHION_STATISTICS if grey else IMAGENET_STATISTICS
    to_tensor = [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(mean), list(deviation)),
    ]
    if size > LARGEST_SMALL_SIZE and not grey:
        train = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
        test = [v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size)]
        return v2.Compose([*train, *to_tensor]), v2.Compose([*test, *to_tensor])
    resize = [] if _sizes(data.test, range(1)) == {(size, size)} else [v2.Resize((size, size), antialias=True)]
    train = [*resize, v2.RandomHorizontalFlip(), v2.RandomCrop(size, padding=-(-size // 8))]
    return v2.Compose([*train, *to_tensor]), v2.Compose([*resize, *to_tensor])


def few(data: Data, samples: int, seed: int = 0) -> Dataset[tuple[Any, int]]:
    """So many of the training images, in their own order: of each class its share, drawn by the seed.

    Raises:
        ArgumentError: there are not so many.
    """
    targets = torch.as_tensor(data.train.targets)  # type: ignore[attr-defined]
    if not 1 <= samples <= len(targets):
        raise ArgumentError(f"samples must lie between 1 and {len(targets)}, the training images, not {samples}")
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    # Behind every image stands what share of its class comes before it; the smallest shares are taken.
    rank = torch.zeros(len(targets))
    for target in sorted(set(targets.tolist())):
        members = order[targets[order] == target]
        rank[members] = (torch.arange(len(members)) + 0.5) / len(members)
    chosen = order[rank[order].argsort(stable=True)][:samples]
    return Subset(data.train, chosen.sort().values.tolist())


def _common_small_size(images: Any) -> int | None:
    """The size of small square images that are all alike, judged from 16 spread over the set; else None."""
    step = max(1, len(images) // 16)
    sizes = _sizes(images, islice(range(0, len(images), step), 16))
    width, height = next(iter(sizes), (0, 1))
    return int(width) if len(sizes) == 1 and width == height and width <= LARGEST_SMALL_SIZE else None


def _sizes(images: Any, numbers: Iterable[int]) -> set[tuple[int, int]]:
    """Of some images; what is done about those that cannot be read is said where they are trained on."""
    found = set()
    for number in numbers:
        with suppress(DatasetError):
            found.add(images[number][0].size)
    return found
