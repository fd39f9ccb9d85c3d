"""Our defaults against the method of the paper as its authors' code has it, conventional freezing, and full training.

Measures: accuracy on the test images as they are and under random flips and crops of their own; bytes that are stored
behind each freeze, and of the same in float32; seconds of an epoch by stage (median of its epochs, the first behind
each freeze left out where there are others), of building and measuring, and in all. The arms: "ours" (the defaults),
"ours/T" (at a tolerance of T nats), "paper/N" (`method="paper"` with chunks of N, and another codec than theirs where
one is named), "conventional" (frozen layers run forward on live augmentation, `mode="recompute"`), "full" (nothing
freezes). All arms freeze the same layers before the same epochs, take the front as it is then (`settle="last"`), have
the same seeds and rates, and train by turns, an epoch each, in one process: what else the machine does meets all of
them.
On: "scratch": a CIFAR-style ResNet on Fashion-MNIST with flips and padded crops, `layer1` and `layer2` frozen after 40
and 80 % of the epochs as in the authors' shorter runs; "fine-tuning": EfficientNet-Lite0 with its ImageNet weights, the
same images at 64 pixels, `blocks.9` frozen from the start. SGD, momentum 0.9, weight decay 1e-4, cosine, batches of 64.
Their size: `--width 32 --blocks 5 --epochs 50 --data fashion-mnist --device cuda`.
Repeats: `--seeds`. Runs that `--out` holds with the same sizes are not repeated.

    python benchmarks/paper.py --seeds 3 --out benchmarks/results/paper.json
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from hoarfrost import Freezer, Pipeline
from hoarfrost.data import open_data
from hoarfrost.models import cifar_resnet, efficientnet_lite0

GREY = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
COLOUR = [
    v2.ToImage(),
    v2.Resize(64),
    v2.Grayscale(3),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize([0.5], [0.5]),
]


@dataclass(frozen=True)
class Story:
    """A training: its model, how images are shown, and where it freezes, as shares of the epochs."""

    make: Callable[[argparse.Namespace], nn.Module]
    shown: Sequence[Any]
    random: Sequence[Any]
    points: dict[float, str]
    rate: float

    def frozen(self, epochs: int) -> dict[int, str]:
        return {round(share * epochs): cut for share, cut in self.points.items()}


STORIES = {
    "scratch": Story(
        lambda told: cifar_resnet(widths=[told.width, 2 * told.width, 4 * told.width], blocks=[told.blocks] * 3),
        GREY,
        [v2.RandomHorizontalFlip(), v2.RandomCrop(28, padding=4)],
        {0.4: "layer1", 0.8: "layer2"},
        0.1,
    ),
    "fine-tuning": Story(
        lambda told: efficientnet_lite0(10),
        COLOUR,
        # Behind the resize nothing is moved that the features could not follow.
        [v2.RandomHorizontalFlip(), v2.RandomCrop(28, padding=4)],
        {0.0: "blocks.9"},
        0.02,
    ),
}


def arms(told: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each is told beside the schedule; None for a policy: nothing freezes."""
    papers = {
        f"paper/{size}" + (f" {ladder}" if ladder != "zfp" else ""): {
            "method": "paper",
            "chunks": size,
            "ladder": ladder,
        }
        for size in told.chunk
        for ladder in told.ladder
    }
    ours = {f"ours/{tolerance:g}": {"mode": "cache", "tolerance": tolerance} for tolerance in told.tolerance}
    every = {
        "full": {"policy": "none"},
        "conventional": {"mode": "recompute"},
        **papers,
        "ours": {"mode": "cache"},
        **ours,
    }
    return {name: options for name, options in every.items() if name not in told.without}


class Training:
    """One arm's training, an epoch at a time."""

    def __init__(self, story: Story, arm: dict[str, Any], seed: int, told: argparse.Namespace) -> None:
        torch.manual_seed(seed)
        self.device = torch.device(told.device)
        model = story.make(told).to(self.device)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=story.rate, momentum=0.9, weight_decay=1e-4)
        data = open_data(told.data).train
        data = data if told.samples is None else data.first(told.samples)
        self.epochs, self.rate = told.epochs, story.rate
        self.freezer = Freezer(
            model,
            data,
            transform=v2.Compose([*story.random, *story.shown]),
            optimizer=self.optimizer,
            verbose=False,
            **{
                "batch_size": 64,
                "epochs": told.epochs,
                "seed": seed,
                "settle": "last",
                "workers": told.workers,
                "policy": story.frozen(told.epochs),
                **arm,
            },
        )

    def epoch(self, number: int) -> None:
        freezer, model = self.freezer, self.freezer.model
        model.train()
        for step, (inputs, targets) in enumerate(freezer.batches(number)):
            done = (number + step / freezer.batches_per_epoch) / self.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
            F.cross_entropy(freezer(inputs), targets).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        freezer.end_epoch()

    def outcome(self, tests: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Any]:
        history = self.freezer.history
        freezes = [record for record in history if record["event"] == "freeze"]
        epochs = [record for record in history if record["event"] == "epoch"]
        stages: dict[str, list[float]] = {}
        for record in epochs:
            stages.setdefault(record["cut"] or "nothing", []).append(record["seconds"])
        return {
            **{name: accuracy(self.freezer.model, *given) for name, given in tests.items()},
            "seconds": self.freezer.training_seconds,
            "epoch_seconds": {stage: statistics.median(seconds[1:] or seconds) for stage, seconds in stages.items()},
            "freezes": [
                {
                    **{name: record[name] for name in ("epoch", "cut", "choice", "views", "build_seconds")},
                    **{name: record[name] for name in ("cache_bytes", "dense_bytes")},
                    "stored_channels": _count(record["stored_channels"]),
                    "codec": next((rung["codec"] for rung in record["rungs"] if rung["chosen"]), None),
                    "harm": next((rung["kl"] for rung in record["rungs"] if rung["chosen"]), None),
                }
                for record in freezes
            ],
        }


def _count(stored: Sequence[int] | None) -> int | None:
    return None if stored is None else len(stored)


def accuracy(model: nn.Module, images: Tensor, targets: Tensor) -> float:
    model.eval()
    device = next(model.parameters()).device
    with torch.no_grad():
        found = [model(part.to(device)).argmax(1).cpu() for part in images.split(256)]
    return float((torch.cat(found) == targets).float().mean())


def test_images(story: Story, told: argparse.Namespace) -> dict[str, tuple[Tensor, Tensor]]:
    """As they are, and under one random rendition each."""
    data = open_data(told.data).test.first(told.tests)
    items, targets = zip(*(data[n] for n in range(len(data))), strict=True)
    ids, found = torch.arange(len(items)), {}
    for name, steps in (("plain", story.shown), ("augmented", [*story.random, *story.shown])):
        pipeline = Pipeline.from_transform(v2.Compose(steps))
        found[name] = pipeline.render(items, ids, pipeline.draw(len(items), 12345)), torch.tensor(targets)
    return found


def runs(name: str, seed: int, told: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each arm with how it ended; all of them train by turns."""
    story = STORIES[name]
    trainings = {arm: Training(story, options, seed, told) for arm, options in arms(told).items()}
    for epoch in range(told.epochs):
        # Nobody is always the one behind whom the caches are cold.
        order = [*trainings][epoch % len(trainings) :] + [*trainings][: epoch % len(trainings)]
        for arm in order:
            trainings[arm].epoch(epoch)
    tests = test_images(story, told)
    for arm, training in trainings.items():
        yield arm, training.outcome(tests)
        training.freezer.close()


def table(records: Sequence[dict[str, Any]]) -> str:
    """Means over seeds with their spread; ratios of each run to conventional freezing of the same seed."""
    lines = [
        "| training | arm | plain, % | augmented, % | stored, MB (below fp32) | seconds in all | conventional / arm |"
        " an epoch by stage, s | building, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for story, arm in dict.fromkeys((record["story"], record["arm"]) for record in records):
        mine = [record for record in records if (record["story"], record["arm"]) == (story, arm)]
        rivals = {r["seed"]: r["seconds"] for r in records if (r["story"], r["arm"]) == (story, "conventional")}
        freezes = zip(*(record["freezes"] for record in mine), strict=True)
        stored = [_stored(same) for same in freezes if same[0]["choice"] == "cache"]
        of_stage = {
            stage: statistics.mean(record["epoch_seconds"][stage] for record in mine)
            for stage in mine[0]["epoch_seconds"]
        }
        cells = [
            story,
            arm,
            spread([100 * record["plain"] for record in mine]),
            spread([100 * record["augmented"] for record in mine]),
            ", ".join(stored) or "–",
            spread([record["seconds"] for record in mine]),
            spread([rivals[record["seed"]] / record["seconds"] for record in mine if record["seed"] in rivals]),
            ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in of_stage.items()),
            f"{sum(freeze['build_seconds'] for record in mine for freeze in record['freezes']) / len(mine):.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _stored(same: Sequence[dict[str, Any]]) -> str:
    """Of one freeze in several runs."""
    megabytes = statistics.mean(freeze["cache_bytes"] for freeze in same) / 1e6
    return f"{megabytes:.2f} ({statistics.mean(f['dense_bytes'] / f['cache_bytes'] for f in same):.1f}x)"


def spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--story", action="append", choices=STORIES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--chunk", type=int, action="append", help="of the paper's method, once or more; default: 8")
    parser.add_argument("--ladder", action="append", help="of the paper's method, once or more; default: zfp (zfp:100)")
    parser.add_argument("--tolerance", type=float, action="append", help="of ours too, once or more")
    parser.add_argument("--without", action="append", help="an arm that is left out, once or more")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--samples", type=int, help="of the training images; default: all")
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--width", type=int, default=32, help="of the ResNet's first layer")
    parser.add_argument("--blocks", type=int, default=5, help="in each of its layers; 5 make a ResNet-32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--note", default="", help="a sentence for the record: on what it was measured")
    parser.add_argument("--smoke", action="store_true", help="a few images and epochs: only to see it run")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/paper.json"))
    told = parser.parse_args()
    told.chunk, told.ladder = told.chunk or [8], told.ladder or ["zfp"]
    told.tolerance, told.without = told.tolerance or [], told.without or []
    if told.smoke:
        told.seeds, told.samples, told.tests, told.epochs, told.width, told.blocks = 1, 128, 64, 5, 8, 1
    torch.set_num_threads(told.threads)
    kept = json.loads(told.out.read_text())["records"] if told.out.exists() else []
    told.out.parent.mkdir(parents=True, exist_ok=True)
    sizes = {name: getattr(told, name) for name in ("data", "samples", "tests", "epochs", "width", "blocks", "device")}
    for seed in range(told.first_seed, told.first_seed + told.seeds):
        for story in told.story or STORIES:
            lacking = [
                arm
                for arm in arms(told)
                if not any((r["story"], r["arm"], r["seed"], r["sizes"]) == (story, arm, seed, sizes) for r in kept)
            ]
            if not lacking:
                continue
            began = time.perf_counter()
            fresh = [
                {"story": story, "arm": a, "seed": seed, "sizes": sizes, **found}
                for a, found in runs(story, seed, told)
            ]
            kept = [r for r in kept if (r["story"], r["seed"], r["sizes"]) != (story, seed, sizes)] + fresh
            about = {"note": told.note, "torch": torch.__version__, "machine": _machine(told), "threads": told.threads}
            told.out.write_text(json.dumps({"told": about, "records": kept}, indent=1))
            print(f"seed {seed}, {story}: {time.perf_counter() - began:.0f} s", flush=True)
    print(table([record for record in kept if record["sizes"] == sizes]))


def _machine(told: argparse.Namespace) -> str:
    return (
        torch.cuda.get_device_name() if told.device.startswith("cuda") else platform.processor() or platform.machine()
    )


if __name__ == "__main__":
    main()
