"""What `hoarfrost.plan` predicts, against what the run then measures.

Measures: seconds of an epoch on the cache, of an epoch that recomputes, and of an epoch of full training; seconds to
store a view; bytes on disk: predicted from a few images, then measured on all of them. Prediction and run follow each
other; the ratio is predicted / measured.
On: embedded Fashion-MNIST images, a small ResNet and a small ViT as initialised at 28 and 32 pixels, EfficientNet-Lite0
with its weights at 96 pixels; each cut at the rung that "auto" takes and at one that is given. One thread.
Repeats: the median of `--epochs` measured epochs, three by default, after one uncounted.

    python benchmarks/plan.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from cache_study.epoch import small_vit
from hoarfrost import Freezer, plan
from hoarfrost.data import open_data
from hoarfrost.models import cifar_resnet, efficientnet_lite0
from measuring.record import write_record


@dataclass(frozen=True)
class Subject:
    """A model, its images, and the (cut, ladder) pairs that are predicted."""

    make: Callable[[], nn.Module]
    pixels: int
    channels: int
    samples: int
    batch_size: int
    channels_last: bool
    pairs: tuple[tuple[str, str | int], ...]

    @property
    def transform(self) -> v2.Compose:
        form = [v2.ToImage(), v2.Resize((self.pixels, self.pixels), antialias=True)]
        form += [v2.RGB()] if self.channels == 3 else []
        drawn = [v2.RandomHorizontalFlip(), v2.RandomCrop(self.pixels, padding=4)]
        return v2.Compose([*form, *drawn, v2.ToDtype(torch.float32, scale=True)])


def pairs(cuts: tuple[str, ...], bits: int) -> tuple[tuple[str, str | int], ...]:
    return tuple((cut, ladder) for ladder in ("auto", bits) for cut in cuts)


LAYERS = tuple(f"encoder.layers.encoder_layer_{number}" for number in (0, 2))
SUBJECTS = {
    "cifar_resnet": Subject(
        lambda: cifar_resnet(10, 1, (32, 48, 64), (1, 1, 1)), 28, 1, 2_000, 32, True, pairs(("layer1", "layer2"), 6)
    ),
    "small_vit": Subject(small_vit, 32, 3, 1_500, 64, False, pairs(LAYERS, 6)),
    "efficientnet_lite0": Subject(
        lambda: efficientnet_lite0(10, 1), 96, 1, 300, 32, True, pairs(("blocks.4", "blocks.9"), 8)
    ),
}


def trained(freezer: Freezer, optimizer: torch.optim.Optimizer, epochs: int) -> float:
    """Median seconds of an epoch, the first not counted."""
    freezer.model.train()
    seconds = []
    for epoch in range(epochs + 1):
        began = time.perf_counter()
        for inputs, targets in freezer.batches(epoch):
            F.cross_entropy(freezer(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def measured(subject: Subject, samples: int, epochs: int, **options: Any) -> tuple[float, dict[str, Any]]:
    """Seconds of an epoch, and the freeze record."""
    torch.manual_seed(0)
    model = subject.make()
    model = model.to(memory_format=torch.channels_last) if subject.channels_last else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    data = open_data("embedded").train.first(samples)  # type: ignore[attr-defined]
    with (
        tempfile.TemporaryDirectory() as folder,
        Freezer(
            model,
            data,
            batch_size=subject.batch_size,
            epochs=1_000,
            transform=subject.transform,
            optimizer=optimizer,
            channels_last=subject.channels_last,
            cache_dir=folder,
            **options,
        ) as freezer,
    ):
        seconds = trained(freezer, optimizer, epochs)
        return seconds, next((record for record in freezer.history if record["event"] == "freeze"), {})


def compare(name: str, subject: Subject, cut: str, ladder: str | int, samples: int, epochs: int) -> dict[str, Any]:
    """Predicted and measured, for one cut at one rung."""
    torch.manual_seed(0)
    model = subject.make()
    model = model.to(memory_format=torch.channels_last) if subject.channels_last else model
    began = time.perf_counter()
    found = plan(
        model,
        open_data("embedded").train.first(samples),  # type: ignore[attr-defined]
        batch_size=subject.batch_size,
        epochs=100,
        transform=subject.transform,
        policy="none",
        cuts=[cut],
        ladder=ladder,
        channels_last=subject.channels_last,
    )
    planning = time.perf_counter() - began
    (predicted,) = found.cuts
    full, _ = measured(subject, samples, epochs, policy="none")
    recompute, _ = measured(subject, samples, epochs, policy={0: cut}, mode="recompute")
    read, record = measured(subject, samples, epochs, policy={0: cut}, mode="cache", ladder=ladder)
    return {
        "model": name,
        "cut": cut,
        "ladder": ladder,
        "codec": predicted.rung.codec,
        "probe": found.probe,
        "samples": samples,
        "planning_seconds": planning,
        "full": found.full_seconds / full,
        "recompute": predicted.recompute_seconds / recompute,
        "read": predicted.read_seconds / read,
        "build": predicted.build_seconds * record["views"] / record["build_seconds"],
        "bytes": predicted.rung.nbytes(record["views"]) / record["cache_bytes"],
        "measured": {"full": full, "recompute": recompute, "read": read, "bytes": record["cache_bytes"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*SUBJECTS, "all"], default="all")
    parser.add_argument("--samples", type=int, help="images, in place of each model's own number")
    parser.add_argument("--pairs", type=int, help="only so many of a model's cuts and rungs")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/plan.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    print("| model | cut | ladder | full epoch | recomputing | reading | building | bytes | probe of all |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, subject in SUBJECTS.items():
        if options.model not in ("all", name):
            continue
        samples = options.samples or subject.samples
        for cut, ladder in subject.pairs[: options.pairs]:
            row = compare(name, subject, cut, ladder, samples, options.epochs)
            found.append(row)
            ratios = " | ".join(f"{row[key]:.2f}" for key in ("full", "recompute", "read", "build", "bytes"))
            print(f"| {name} | {cut} | {ladder} | {ratios} | {row['probe']} of {samples:,} |", flush=True)
    write_record(options.out, options, rows=found)


if __name__ == "__main__":
    main()
