"""What is trained: two data sets, two kinds of model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from hoarfrost.data import ImageArray, open_data
from hoarfrost.models import cifar_resnet

PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
"""Photos and textures that scikit-image's wheel carries, each a class of patches."""

PATCH = 32
"""Pixels of a patch's side, from windows of 72 pixels."""
WINDOW = 72
TILE = 100
"""A photo is divided into tiles of 100 pixels, by turns for training and for testing, as a chessboard."""
NOISE = 4.0
"""Standard deviation of the noise on patches, of 255: without any, most photos are told apart at a glance."""


@dataclass(frozen=True)
class Data:
    train: ImageArray
    test: ImageArray
    size: int
    channels: int

    @property
    def classes(self) -> int:
        return len(self.train.classes)

    @property
    def transform(self) -> v2.Compose:
        """The user's augmentation: flips and shifts by up to four pixels."""
        return v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(self.size, padding=4), *self.plain.transforms])

    @property
    def plain(self) -> v2.Compose:
        return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.3], [0.3])])


def fashion(samples: int, tests: int, seed: int) -> Data:
    """Fashion-MNIST: the embedded images, and the real test set where it is at hand."""
    train = open_data("embedded").train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    chosen = balanced(torch.as_tensor(train.targets), samples, order).numpy()
    test = open_data("fashion-mnist" if tests > 2_000 else "embedded").test
    return Data(
        ImageArray(train.images[chosen], np.asarray(train.targets)[chosen], train.classes),
        test.first(tests),
        28,
        channels=1,
    )


def photos(samples: int, tests: int, seed: int) -> Data:
    """Patches of photos: which photo is it? Training patches lie in tiles of their own, test ones between."""
    names = [Path(name).stem for name in PHOTOS]
    grey = [_grey(name) for name in PHOTOS]
    generators = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(10_000)
    train, test = (
        torch.cat([_patches(image, part, count // len(grey), generator) for image in grey])
        for part, count, generator in ((0, samples, generators[0]), (1, tests, generators[1]))
    )
    targets = [torch.arange(len(grey)).repeat_interleave(count // len(grey)) for count in (samples, tests)]
    return Data(_array(train, targets[0], names), _array(test, targets[1], names), PATCH, channels=1)


DATA: dict[str, Callable[[int, int, int], Data]] = {"fashion": fashion, "photos": photos}


def balanced(targets: Tensor, samples: int, order: Tensor) -> Tensor:
    """As many of each class, in the given order."""
    classes = int(targets.max()) + 1
    shuffled = targets[order]
    return torch.cat([order[shuffled == label][: samples // classes] for label in range(classes)])


def _array(images: Tensor, targets: Tensor, names: list[str]) -> ImageArray:
    return ImageArray(images.numpy(), targets.numpy(), names)


def _grey(name: str) -> Tensor:
    """[H, W] float, 0 to 255."""
    try:
        files = distribution("scikit-image").files or []
    except PackageNotFoundError:
        raise SystemExit("the photos come with scikit-image: pip install 'hoarfrost[augmentation]'") from None
    found = next(file for file in files if file.name == name)
    with Image.open(str(found.locate())) as image:
        return torch.as_tensor(functional.pil_to_tensor(image.convert("L"))[0].float())


def _patches(image: Tensor, part: int, count: int, generator: torch.Generator) -> Tensor:
    """[count, 32, 32] uint8, from the white (0) or the black (1) tiles; no window crosses a tile's border."""
    rows, columns = (length // TILE for length in image.shape)
    tiles = [(row, column) for row in range(rows) for column in range(columns) if (row + column) % 2 == part]
    chosen = torch.randint(0, len(tiles), (count,), generator=generator)
    inside = torch.randint(0, TILE - WINDOW + 1, (count, 2), generator=generator)
    corners = torch.tensor(tiles)[chosen] * TILE + inside
    windows = torch.stack([image[y : y + WINDOW, x : x + WINDOW] for y, x in corners.tolist()])
    # Brightness and contrast tell too much of a photo.
    windows = (windows - windows.mean((1, 2), True)) / windows.std((1, 2), keepdim=True).clamp(min=4) * 45 + 128
    small: Tensor = functional.resize(windows[:, None], [PATCH, PATCH], antialias=True)[:, 0]
    return (small + NOISE * torch.randn(small.shape, generator=generator)).clamp(0, 255).to(torch.uint8)


class SmallViT(VisionTransformer):
    """Patches of four pixels behind two convolutions, six layers of 64.

    The convolutions (Xiao et al., *Early convolutions help transformers see better*, 2021) let it learn from a thousand
    images, which patches alone do not.
    """

    def __init__(self, data: Data) -> None:
        super().__init__(
            image_size=data.size,
            patch_size=4,
            num_layers=6,
            num_heads=4,
            hidden_dim=64,
            mlp_dim=128,
            num_classes=data.classes,
        )
        self.conv_proj = nn.Sequential(
            nn.Conv2d(data.channels, 32, 3, 2, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 64, 1),
        )


@dataclass(frozen=True)
class Kind:
    """A model, where it is frozen, and how it is trained.

    Attributes:
        patience: the plan's epochs are multiplied by it.
    """

    build: Callable[[Data], nn.Module]
    cut: str
    optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]
    patience: int = 1


KINDS: dict[str, Kind] = {
    "resnet": Kind(
        lambda data: cifar_resnet(data.classes, data.channels, widths=(24, 48, 64), blocks=(1, 1, 1)),
        "layer1",
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    ),
    "vit": Kind(
        SmallViT,
        "encoder.layers.encoder_layer_1",
        lambda parameters: torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.05),
        patience=2,
    ),
}
