"""An epoch on the cache, read in three ways, against the same suffix over features that lie in memory."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.cache import Cache
from hoarfrost.data import open_data
from hoarfrost.models import cifar_resnet, efficientnet_lite0
from measuring.timing import Seconds, summary, timed, told

__all__ = ["SUBJECTS", "epoch"]


@dataclass(frozen=True)
class Subject:
    """A model, its cuts, the size of the images that it is given in pixels, how, and how many at most."""

    make: Callable[[], nn.Module]
    cuts: tuple[str, ...]
    size: int
    batch_size: int
    channels_last: bool
    channels: int = 1
    samples: int = 100_000


def small_vit() -> nn.Module:
    """A VisionTransformer of 64 tokens of 96 numbers, 4 layers."""
    return VisionTransformer(
        image_size=32, patch_size=4, num_layers=4, num_heads=3, hidden_dim=96, mlp_dim=384, num_classes=10
    )


STAGES = ("layer1", "layer2", "layer3")
LAYERS = tuple(f"encoder.layers.encoder_layer_{number}" for number in range(3))
BLOCKS = ("blocks.4", "blocks.9", "blocks.14")
SUBJECTS = {
    "cifar_resnet": Subject(lambda: cifar_resnet(10, 1, (32, 48, 64), (1, 1, 1)), STAGES, 28, 32, True),
    "small_vit": Subject(small_vit, (*LAYERS, "encoder"), 32, 64, False, channels=3),
    "efficientnet_lite0": Subject(lambda: efficientnet_lite0(10, 1), BLOCKS, 112, 32, True, samples=256),
}


def train(freezer: Freezer, optimizer: torch.optim.Optimizer, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    for inputs, targets in batches:
        optimizer.zero_grad()
        F.cross_entropy(freezer(inputs), targets).backward()
        optimizer.step()


def drop_pages(cache: Cache) -> None:
    """Takes the cache's files out of the page cache."""
    for path in cache.path.iterdir():
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def measure_epoch(name: str, subject: Subject, size: int, samples: int, cut: str, repeats: int) -> dict[str, Any]:
    """Ratios for one cut of one model."""
    form = [v2.ToImage(), v2.Resize((size, size), antialias=True), *([v2.RGB()] if subject.channels == 3 else [])]
    transform = v2.Compose([*form, v2.ToDtype(torch.float32, scale=True)])
    data = open_data("embedded").train.first(samples)  # type: ignore[attr-defined]
    ways: dict[str, tuple[Freezer, torch.optim.Optimizer]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def freezer_of(way: str, memory_budget: int) -> Freezer:
            torch.manual_seed(0)
            model = subject.make()
            model = model.to(memory_format=torch.channels_last) if subject.channels_last else model
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
            freezer = Freezer(
                model,
                data,
                batch_size=subject.batch_size,
                epochs=100,
                transform=transform,
                policy={0: cut},
                optimizer=optimizer,
                mode="cache",
                cache_dir=Path(folder) / way,
                memory_budget=memory_budget,
                views=1,
                channels_last=subject.channels_last,
            )
            model.train()
            ways[way] = freezer, optimizer
            return freezer

        kept = freezer_of("memory", 256 << 20)
        like = [*kept.batches(0)]
        sizes = [len(targets) for _, targets in like]
        shape = tuple(like[0][0].shape[1:])
        features = torch.rand(samples, *shape)
        if subject.channels_last and features.dim() == 4:
            features = features.contiguous(memory_format=torch.channels_last)
        targets = torch.cat([targets for _, targets in like])
        del like
        decoded = samples * int(np.prod(shape))
        freezer_of("disk", 0)
        freezer_of("capped", decoded // 4)
        for freezer, _ in ways.values():
            next(iter(freezer.batches(0)))
        turns: list[dict[str, Seconds]] = []
        for turn in range(repeats + 1):
            found: dict[str, Seconds] = {}
            for way, (freezer, optimizer) in ways.items():
                if way == "capped" and freezer.cache is not None:
                    drop_pages(freezer.cache)
                found[way] = timed(lambda f=freezer, o=optimizer, e=turn + 1: train(f, o, f.batches(e)))  # type: ignore[misc]
            resident = zip(features.split(sizes), targets.split(sizes), strict=True)
            found["resident"] = timed(lambda r=resident: train(*ways["memory"], r))  # type: ignore[misc]
            turns.append(found)
        record = next(record for record in kept.history if record["event"] == "freeze")
        for freezer, _ in ways.values():
            freezer.close()
    rung = next(rung for rung in record["rungs"] if rung["chosen"])
    result: dict[str, Any] = {"model": name, "size": size, "cut": cut, "features": list(shape), "codec": rung["codec"]}
    result |= {"kl": rung["kl"], "below_fp32": record["dense_bytes"] / record["cache_bytes"], "samples": samples}
    result["resident_seconds"] = statistics.median(turn["resident"][0] for turn in turns[1:])
    for way in ways:
        for clock, kind in enumerate(("processor", "clock")):
            ratios = [turn[way][clock] / turn["resident"][clock] for turn in turns[1:]]
            result[f"{way}_{kind}"] = summary(ratios)
    return result


def epoch(options: argparse.Namespace) -> list[dict[str, Any]]:
    print("| model, pixels | cut | features | in memory | on disk | a quarter in memory, no page cache | rung |")
    print("|---|---|---|---|---|---|---|")
    found = []
    for name, subject in SUBJECTS.items():
        if options.model not in ("all", name):
            continue
        size = options.size or subject.size
        samples = min(options.samples, subject.samples)
        for cut in options.cuts or subject.cuts:
            row = measure_epoch(name, subject, size, samples, cut, options.repeats)
            found.append(row)
            columns = " | ".join(told(row[f"{way}_clock"]) for way in ("memory", "disk", "capped"))
            shape = "x".join(map(str, row["features"]))
            print(f"| {name}, {size} | {cut} | {shape} | {columns} | {row['codec']} |", flush=True)
    return found
