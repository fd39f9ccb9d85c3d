"""The models of `gpu.py`, each with its cut, and the sizes at which they are measured."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torchvision.models import VisionTransformer, resnet18, resnet50, vit_b_16

__all__ = ["FULL", "QUICK", "Size", "Subject"]


@dataclass(frozen=True)
class Subject:
    """A model, and the cut up to which it is frozen."""

    name: str
    make: Callable[[], nn.Module]
    cut: str
    channels_last: bool


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        stored_pixels, pixels: of an image as a JPEG, and as a model sees it.
        steps: of each way in a round.
        rest_seconds: for which the loader's processes are given time to fill their queue.
        least_seconds: without which a model is not begun.
    """

    subjects: tuple[Subject, ...]
    samples: int
    stored_pixels: int
    pixels: int
    batch_size: int
    steps: int
    rounds: int
    workers: int
    rest_seconds: float
    least_seconds: float


def small_vit() -> nn.Module:
    return VisionTransformer(image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64)


FULL = Size(
    subjects=(
        Subject("resnet50", resnet50, "layer3", True),
        Subject("vit_b_16", vit_b_16, "encoder.layers.encoder_layer_8", False),
    ),
    samples=10_000,
    stored_pixels=256,
    pixels=224,
    batch_size=256,
    steps=20,
    rounds=5,
    workers=os.cpu_count() or 1,
    rest_seconds=2.0,
    least_seconds=60.0,
)

QUICK = Size(
    subjects=(
        Subject("resnet18", resnet18, "layer3", True),
        Subject("small_vit", small_vit, "encoder.layers.encoder_layer_1", False),
    ),
    samples=96,
    stored_pixels=48,
    pixels=32,
    batch_size=16,
    steps=2,
    rounds=2,
    workers=1,
    rest_seconds=0.0,
    least_seconds=2.0,
)
