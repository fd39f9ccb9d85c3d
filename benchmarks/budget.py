"""Whether `Budget` keeps its word: the time that was promised and the time that was taken.

Measures: training seconds of each run (evaluation apart; builds, trials and timings included), against those allowed:
for "2x", half of what its epochs would have taken at the median of those that it ran on images; for seconds, those,
which are taken as 70 % of the first full training's. A word is kept where taken / allowed lies between 0.9 and 1.1.
Beside it: the seconds of full training, run before and behind all budgets of a model (the mean of both), over those
taken; accuracy on 2,000 held-out images, as Δ to the mean of full training; and the depths.
On: the demo's ResNet at 28 pixels, a small ViT at 32, EfficientNet-Lite0 with its ImageNet weights at 64, embedded
Fashion-MNIST images, random flips and crops, SGD with a cosine schedule. One thread.
Seconds are the process's own processor seconds, for the policy's clock too, since the machine may have other work;
`--wall` takes the wall's.
Repeats: none; each model and target is a case.

    python benchmarks/budget.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import nn
from torchvision.transforms import v2

from cache_study.epoch import small_vit
from hoarfrost import Freezer
from hoarfrost.data import open_data
from hoarfrost.models import cifar_resnet, efficientnet_lite0
from hoarfrost.policies import Budget, Never, Policy
from hoarfrost.running import fit
from measuring.record import write_record
from measuring.shown import shown
from policies import accuracy_of


@dataclass(frozen=True)
class Subject:
    """A model, its images, its training, and what is asked of it."""

    make: Callable[[], nn.Module]
    pixels: int
    channels: int
    rate: float
    samples: int
    epochs: int
    targets: tuple[str, ...]

    def shown(self) -> list[Any]:
        form = [v2.ToImage(), v2.Resize((self.pixels, self.pixels), antialias=True)]
        form += [v2.RGB()] if self.channels == 3 else []
        return [*form, v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])]


TARGETS = ("1.25x", "1.5x", "2x", "time")
SUBJECTS = {
    "cifar_resnet": Subject(
        lambda: cifar_resnet(10, 1, (32, 48, 64), (1, 1, 1)), 28, 1, 0.1, 1_000, 15, (*TARGETS, "2.5x")
    ),
    "small_vit": Subject(small_vit, 32, 3, 0.02, 1_000, 15, TARGETS),
    "efficientnet_lite0": Subject(lambda: efficientnet_lite0(10, 1), 64, 1, 0.02, 500, 12, (*TARGETS, "3x")),
}


def run(subject: Subject, policy: Policy, options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    model = subject.make()
    optimizer = torch.optim.SGD(model.parameters(), lr=subject.rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    data = open_data("embedded").train.first(options.samples or subject.samples)
    drawn = [v2.RandomHorizontalFlip(), v2.RandomCrop(subject.pixels, padding=subject.pixels // 7)]
    shown = subject.shown()
    data.transform = v2.Compose([*shown[:-2], *drawn, *shown[-2:]])
    epochs = options.epochs or subject.epochs
    with Freezer(model, data, batch_size=50, epochs=epochs, policy=policy, optimizer=optimizer) as freezer:
        fit(freezer, optimizer, epochs=epochs)
        return {
            "seconds": freezer.training_seconds,
            "accuracy": accuracy_of(freezer.model, shown, options.tests),
            "depths": [record["depth"] for record in freezer.history if record["event"] == "epoch"],
            "live": [r["seconds"] for r in freezer.history if r["event"] == "epoch" and r["depth"] == 0],
            "why": [record["why"] for record in freezer.history if record["event"] == "decision"],
        }


def cases(name: str, subject: Subject, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All targets of a model, between two full trainings."""
    full = [run(subject, Never(), options)]
    found = []
    for target in subject.targets:
        promised = 0.7 * full[0]["seconds"]
        policy = Budget(seconds=promised) if target == "time" else Budget.told(target)
        found.append({"model": name, "target": target, **run(subject, policy, options)})
        if target == "time":
            found[-1]["allowed"] = promised
        print(name, target, found[-1]["seconds"], found[-1]["why"][-1:], flush=True)
    full.append(run(subject, Never(), options))
    for case in found:
        if "allowed" not in case:
            in_full = len(case["depths"]) * median(case["live"] or full[0]["live"])
            case["allowed"] = in_full / float(case["target"].removesuffix("x"))
        case["full_seconds"] = [one["seconds"] for one in full]
        case["delta"] = case["accuracy"] - mean(one["accuracy"] for one in full)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=SUBJECTS, help="only these; default: all")
    parser.add_argument("--epochs", type=int, help="in place of each model's own")
    parser.add_argument("--samples", type=int, help="in place of each model's own")
    parser.add_argument("--tests", type=int, default=2_000)
    parser.add_argument("--wall", action="store_true", help="by the clock on the wall")
    parser.add_argument("--smoke", action="store_true", help="a few images and epochs: only to see it run")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/budget.json"))
    options = parser.parse_args()
    if options.smoke:
        options.model, options.epochs, options.samples, options.tests = ["cifar_resnet"], 4, 100, 50
    torch.set_num_threads(1)
    if not options.wall:
        time.perf_counter = time.process_time
    found: list[dict[str, Any]] = []
    for name in options.model or SUBJECTS:
        found += cases(name, SUBJECTS[name], options)
        write_record(options.out, options, cases=found)
    print(shown("budget", options.out))


if __name__ == "__main__":
    main()
