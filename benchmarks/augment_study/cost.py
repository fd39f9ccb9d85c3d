"""What it costs to move a batch of features, as a share of the training step that it is for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from hoarfrost import Pipeline, divide, find_cut, find_cuts
from hoarfrost.augment import Mixing, derive
from hoarfrost.models import cifar_resnet, efficientnet_lite0
from hoarfrost.samples.derivation import grid_of

__all__ = ["costs"]

CASES: tuple[tuple[str, Callable[[], nn.Module], tuple[int, int, int], tuple[str, ...]], ...] = (
    (
        "small ResNet",
        lambda: cifar_resnet(10, 1, widths=(32, 48, 64), blocks=(1, 1, 1)),
        (1, 28, 28),
        ("layer1", "layer2"),
    ),
    ("EfficientNet-Lite0", lambda: efficientnet_lite0(10, 3), (3, 64, 64), ("blocks.4", "blocks.9")),
)


def costs(batch_size: int = 64, repeats: int = 9) -> list[dict[str, Any]]:
    """Median seconds of moving a batch and of the suffix's step, in turns, and their ratio with its range."""
    found = []
    for name, build, shape, labels in CASES:
        torch.manual_seed(0)
        model, images = build(), torch.randn(batch_size, *shape)
        for label in labels:
            found += _measured(name, model, images, label, repeats)
    return found


def _measured(name: str, model: nn.Module, images: Tensor, label: str, repeats: int) -> list[dict[str, Any]]:
    size = (images.shape[-2], images.shape[-1])
    pipeline = Pipeline.from_transform(v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(size, padding=4)]))
    ids = torch.arange(len(images))
    source, target = (pipeline.placement(pipeline.draw(len(images), seed), ids, size) for seed in (0, 1))
    cut = find_cut(find_cuts(model, images[:4]), label)
    prefix, suffix = divide(model, cut, images[:4], verify=False)
    with torch.no_grad():
        features = prefix(images)
    grid, targets = grid_of(cut, size), torch.randint(0, 10, (len(images),))
    if grid is None:
        raise ValueError(f"{label} has no grid")
    mixing = Mixing.of(v2.CutMix(num_classes=10))
    optimizer = torch.optim.SGD(suffix.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        nn.functional.cross_entropy(suffix(features), targets).backward()
        optimizer.step()
        optimizer.zero_grad()

    ways: dict[str, Callable[[], object]] = {
        "whole cells": lambda: derive(features, source, target, grid),
        "interpolated": lambda: derive(features, source, target, grid, form="interpolated"),
        "CutMix": lambda: mixing.on_features(features, mixing.draw(0, 0, 1), grid),
    }
    model.train()
    found = []
    for way, move in ways.items():
        pairs = [(_seconds(move), _seconds(step)) for _ in range(repeats + 1)][1:]
        shares = sorted(moved / stepped for moved, stepped in pairs)
        found.append(
            {
                "model": name,
                "cut": label,
                "shape": list(features.shape),
                "way": way,
                "moved_ms": round(1e3 * statistics.median(moved for moved, _ in pairs), 2),
                "step_ms": round(1e3 * statistics.median(stepped for _, stepped in pairs), 2),
                "share": round(statistics.median(shares), 4),
                "least": round(shares[0], 4),
                "most": round(shares[-1], 4),
            }
        )
    return found


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
