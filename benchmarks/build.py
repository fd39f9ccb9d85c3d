"""What building a cache costs: beside the prefix alone, and from a shallower cut's features in place of images.

passes:   wall seconds of (a) storing one view of all images behind a cut, against (b) rendering the same images and
          running the prefix on them, and (c) the prefix alone on images that are rendered already. In turns, a b c
          a b c ...; the ratios a/b and a/c are taken turn by turn.
onward:   wall seconds of storing a deeper cut from images and from the stored features of the cut before, in turns,
          with the harm (mean KL divergence of the outputs, in nats) that either does.
On: embedded Fashion-MNIST images; the small ResNet at 28 pixels, trained for an epoch, and EfficientNet-Lite0 with its
weights at 224 pixels. One thread runs the prefix; encoding and writing have one of their own. `--workers` processes
render the images of (a) and (b); none: the thread of the prefix does.
Repeats: `--repeats` turns (5 by default) after one uncounted turn; median and range.

    python benchmarks/build.py
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

from hoarfrost import Freezer, divide, find_cut, find_cuts
from hoarfrost.data import open_data
from hoarfrost.models import cifar_resnet, efficientnet_lite0
from measuring.record import write_record
from measuring.timing import summary, told

CHUNK = 64


@dataclass(frozen=True)
class Subject:
    """A model, the pixels of its images, how many of them, and the cuts, from the front."""

    make: Callable[[], nn.Module]
    pixels: int
    samples: int
    cuts: tuple[str, str]


SUBJECTS = {
    "cifar_resnet": Subject(lambda: cifar_resnet(10, 1, (32, 48, 64), (1, 1, 1)), 28, 2_000, ("layer1", "layer2")),
    "efficientnet_lite0": Subject(lambda: efficientnet_lite0(10, 1), 224, 128, ("blocks.4", "blocks.9")),
}


class Bench:
    """A trained model and its images."""

    def __init__(self, subject: Subject, samples: int, workers: int) -> None:
        self.workers = workers
        flips = [v2.RandomHorizontalFlip(), v2.RandomCrop(subject.pixels, padding=subject.pixels // 7)]
        form = [v2.ToImage(), v2.Resize((subject.pixels, subject.pixels), antialias=True), *flips]
        self.transform = v2.Compose([*form, v2.ToDtype(torch.float32, scale=True)])
        self.data = open_data("embedded").train.first(samples)  # type: ignore[attr-defined]
        torch.manual_seed(0)
        self.model = subject.make().to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.02, momentum=0.9)
        with self.freezer(policy="none") as freezer:
            self.example = next(iter(freezer.batches(0)))[0]
            for images, targets in freezer.batches(0):
                F.cross_entropy(self.model(images), targets).backward()
                optimizer.step()
                optimizer.zero_grad()
        self.trained = {name: value.clone() for name, value in self.model.state_dict().items()}

    def freezer(self, **options: Any) -> Freezer:
        given = {"batch_size": CHUNK, "epochs": 100, "views": 1, "channels_last": True, "mode": "cache", **options}
        return Freezer(self.model, self.data, transform=self.transform, workers=self.workers, **given)

    def stored(self, policy: dict[int, str], **options: Any) -> dict[str, Any]:
        """The freeze record of the last of the cuts that are frozen, one before each epoch."""
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
        self.model.load_state_dict(self.trained)
        with (
            tempfile.TemporaryDirectory() as folder,
            self.freezer(policy=policy, cache_dir=folder, **options) as freezer,
        ):
            for epoch in range(len(policy)):
                next(iter(freezer.batches(epoch)))
                freezer.end_epoch()
            return [record for record in freezer.history if record["event"] == "freeze"][-1]

    def rendered_and_run(self, cut: str) -> float:
        """Seconds of one epoch that recomputes the features."""
        self.model.load_state_dict(self.trained)
        with self.freezer(policy={0: cut}, mode="recompute") as freezer:
            next(iter(freezer.batches(0)))
            began = time.perf_counter()
            for _ in freezer.batches(0):
                pass
            return time.perf_counter() - began

    def run_alone(self, cut: str) -> float:
        """Seconds of the prefix on images that lie in memory."""
        prefix, _ = divide(self.model, find_cut(find_cuts(self.model, self.example), cut), self.example)
        prefix.eval()
        groups = -(-len(self.data) // CHUNK)
        with torch.no_grad():
            prefix(self.example)
            began = time.perf_counter()
            for _ in range(groups):
                prefix(self.example)
            return (time.perf_counter() - began) * len(self.data) / (groups * len(self.example))


def passes(name: str, bench: Bench, cut: str, repeats: int) -> dict[str, Any]:
    turns = []
    for _ in range(repeats + 1):
        record = bench.stored({0: cut})
        turns.append((record["build_seconds"], bench.rendered_and_run(cut), bench.run_alone(cut)))
    return {
        "model": name,
        "cut": cut,
        "samples": len(bench.data),
        "build_seconds": statistics.median(turn[0] for turn in turns[1:]),
        "against_rendering": summary([turn[0] / turn[1] for turn in turns[1:]]),
        "against_prefix": summary([turn[0] / turn[2] for turn in turns[1:]]),
    }


def onward(name: str, bench: Bench, cuts: tuple[str, str], repeats: int) -> dict[str, Any]:
    turns = []
    policy = dict(enumerate(cuts))
    for _ in range(repeats + 1):
        turns.append([bench.stored(policy, build_from=way) for way in ("images", "features")])
    built = turns[-1][1]["built_from"]
    chosen = next(rung for rung in turns[-1][0]["rungs"] if rung["chosen"])
    return {
        "model": name,
        "cuts": cuts,
        "samples": len(bench.data),
        "ratio": summary([onwards["build_seconds"] / images["build_seconds"] for images, onwards in turns[1:]]),
        "image_seconds": statistics.median(turn[0]["build_seconds"] for turn in turns[1:]),
        "kl_images": chosen["kl"],
        "kl_features": None if built is None else built["kl_stored"],
        "decision": turns[-1][1]["decision"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*SUBJECTS, "all"], default="all")
    parser.add_argument("--samples", type=int, help="images, in place of each model's own number")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/build.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, Any]]] = {"passes": [], "onward": []}
    print("| model | cut | build / rendering and prefix | build / prefix alone | seconds |")
    print("|---|---|---|---|---|")
    benches = {
        name: Bench(subject, options.samples or subject.samples, options.workers)
        for name, subject in SUBJECTS.items()
        if options.model in ("all", name)
    }
    for name, bench in benches.items():
        for cut in SUBJECTS[name].cuts:
            row = passes(name, bench, cut, options.repeats)
            found["passes"].append(row)
            columns = f"{told(row['against_rendering'])} | {told(row['against_prefix'])}"
            print(f"| {name} | {cut} | {columns} | {row['build_seconds']:.2f} |", flush=True)
    print("\n| model | from, to | from features / from images | KL stored from images | KL stored from features |")
    print("|---|---|---|---|---|")
    for name, bench in benches.items():
        row = onward(name, bench, SUBJECTS[name].cuts, options.repeats)
        found["onward"].append(row)
        added = row["decision"] if row["kl_features"] is None else f"{row['kl_features']:.1e}"
        print(
            f"| {name} | {', '.join(row['cuts'])} | {told(row['ratio'])} | {row['kl_images']:.1e} | {added} |",
            flush=True,
        )
    write_record(options.out, options, **found)


if __name__ == "__main__":
    main()
