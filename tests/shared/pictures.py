"""Pictures of several sizes, as a folder of photographs holds them, and small networks for what becomes of them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import SwinTransformer
from torchvision.transforms import v2

__all__ = ["SIDE", "SIZES", "Pictures", "commuting", "register_vit", "swin", "transform", "write_folder"]

SIZES = [(40, 56), (48, 32), (36, 36)]
SIDE = 32


class Pictures:
    """Smooth pictures of several sizes, in four classes; `reads` counts how often one is read by the thread that made
    them, and not by the one that compares a cache that was found with them meanwhile."""

    def __init__(self, n: int = 20, sizes: list[tuple[int, int]] = SIZES) -> None:
        self.sizes, self.n, self.reads, self._made_by = sizes, n, 0, threading.get_ident()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if not 0 <= index < self.n:
            raise IndexError(index)
        self.reads += threading.get_ident() == self._made_by
        height, width = self.sizes[index % len(self.sizes)]
        coarse = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(index))
        smooth = nn.functional.interpolate(coarse[None], (height, width), mode="bilinear")[0]
        picture: Image.Image = v2.functional.to_pil_image(smooth)
        return picture, index % 4


def transform(*steps: Any) -> v2.Compose:
    return v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def write_folder(path: Path, n: int = 40, sizes: list[tuple[int, int]] = SIZES) -> Path:
    """JPEGs in a folder for each class."""
    data = Pictures(n, sizes)
    for number in range(n):
        picture, target = data[number]
        place = path / str(target)
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{number:03}.jpg")
    return path


def commuting(seed: int = 0) -> nn.Module:
    """Its front looks at no neighbour and takes the largest of each cell, so that it commutes with flips to the bit."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 6, 1), nn.MaxPool2d(4)),
        nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(8, 4),
    )


class RegisterViT(nn.Module):
    """A class token and two registers in front of the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, 8)
        self.first = nn.Parameter(torch.randn(1, 3, 8))
        self.position = nn.Parameter(0.1 * torch.randn(1, 16, 8))
        layers = [nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True) for _ in range(2)]
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).mT + self.position
        x = self.blocks(torch.cat([self.first.expand(len(x), -1, -1), x], 1))
        out: Tensor = self.head(x[:, 0])
        return out


def register_vit(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return RegisterViT()


def swin(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=4)
