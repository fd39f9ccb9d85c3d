"""All that torchvision classifies, segments, detects and films with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import detection, segmentation, video

from .entry import Entry, Samples, images

__all__ = ["detectors", "films", "stills"]

SIZES = {"inception_v3": 160, "maxvit_t": 224, "googlenet": 96}
CLASSES = 5
HEIGHT, WIDTH = 64, 72  # of the images for detectors


def stills() -> list[Entry]:
    """Classifiers and segmentation models."""
    return [*listed("torchvision", models, classifier), *listed("torchvision", segmentation, segmenter)]


def detectors() -> list[Entry]:
    return listed("torchvision-detection", detection, detector)


def films() -> list[Entry]:
    return listed("torchvision-video", video, filmer)


def listed(group: str, module: ModuleType, build: Callable[[str], tuple[nn.Module, Samples]]) -> list[Entry]:
    return [Entry(group, name, partial(build, name)) for name in models.list_models(module=module)]


def classifier(name: str) -> tuple[nn.Module, Samples]:
    size = SIZES.get(name, 64 if not name.startswith("vit_h") else 56)
    options: dict[str, Any] = {"image_size": size} if name.startswith("vit_") else {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # drawn from a truncated normal by scipy's slow way otherwise
    return models.get_model(name, weights=None, num_classes=CLASSES, **options), images(size)


def segmenter(name: str) -> tuple[nn.Module, Samples]:
    options: dict[str, Any] = {} if name.startswith("lraspp") else {"aux_loss": True}
    model = models.get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES, **options)
    return model, images(64)


def filmer(name: str) -> tuple[nn.Module, Samples]:
    frames, size = (16, 224) if name.startswith("mvit") else (16, 64) if name == "s3d" else (8, 64)
    model = models.get_model(name, weights=None, num_classes=CLASSES)
    return model, lambda rows: torch.randn(rows, 3, frames, size, size)


def detector(name: str) -> tuple[nn.Module, Samples]:
    """Called as in training: a list of images, and a list of targets.

    All of one size: where the sizes differ, a batch is padded to its largest image, and the features of a sample have
    another shape in another batch, which no cut allows.
    """
    options: dict[str, Any] = {} if name.startswith("ssd") else {"min_size": 64, "max_size": 96}
    classes = 2 if name.startswith("keypoint") else CLASSES
    model = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes, **options)
    return model, lambda rows: ([picture(n) for n in range(rows)], [target(classes) for _ in range(rows)])


def picture(number: int) -> Tensor:
    """An image [3, H, W], each with other values."""
    return torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(number))


def target(classes: int) -> dict[str, Tensor]:
    """Two boxes [2, 4] with labels, masks [2, H, W] and keypoints [2, 17, 3]."""
    boxes = torch.tensor([[4.0, 6.0, 30.0, 40.0], [20.0, 10.0, 60.0, 50.0]])
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    keypoints = torch.cat([middle, torch.ones(2, 1)], dim=1)[:, None].expand(2, 17, 3).clone()
    labels = torch.arange(2) % (classes - 1) + 1
    return {"boxes": boxes, "labels": labels, "masks": masks, "keypoints": keypoints}
