"""Several heads by one reading: `hoarfrost.Sweep` against a training of its own for each.

Measures: processor seconds of this process (wall seconds beside them) of `--variants` trainings that differ in rate and
random state, from the first batch of the first epoch to the end of the last one, all on a cache that is there; and how
many weights of the two ways differ in a bit.
On: a small ResNet on the embedded images, frozen from the start up to `--cut`, 8 bits, one thread. What is saved is the
reading: the earlier the cut the more bytes, the later the less is left to compute.
Repeats: `--turns` of both in turn; the median ratio, and the least and largest.

    python benchmarks/sweep.py --variants 8 --turns 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from hoarfrost import Freezer, Sweep
from hoarfrost.data import open_data
from hoarfrost.models import cifar_resnet

NORMALISED = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])])


def variants(options: argparse.Namespace, folder: str) -> list[Freezer]:
    made = []
    for number in range(options.variants):
        data = open_data("embedded").train.first(options.samples)
        data.transform = NORMALISED
        torch.manual_seed(0)
        model: Any = cifar_resnet(widths=(16, 32, 64))
        torch.manual_seed(number)
        model.fc.reset_parameters()
        optimizer = torch.optim.SGD(model.parameters(), 0.1 / 2**number, 0.9)
        told = {"policy": {0: options.cut}, "mode": "cache", "views": 1, "ladder": 8, "verbose": False}
        memory = {"memory_budget": options.memory_budget, "cache_dir": folder, "batch_size": 64}
        made.append(Freezer(model, data, epochs=options.epochs, optimizer=optimizer, **told, **memory))
    return made


def step(freezer: Freezer, inputs: Any, targets: Any) -> None:
    optimizer: Any = freezer.optimizer
    F.cross_entropy(freezer(inputs), targets).backward()
    optimizer.step()
    optimizer.zero_grad()


def alone(freezers: list[Freezer], epochs: int) -> None:
    for number, freezer in enumerate(freezers):
        torch.manual_seed(number)
        for epoch in range(epochs):
            for inputs, targets in freezer.batches(epoch):
                step(freezer, inputs, targets)
            freezer.end_epoch()


def swept(freezers: list[Freezer], epochs: int) -> None:
    sweep = Sweep(freezers, seeds=range(len(freezers)))
    for epoch in range(epochs):
        for freezer, (inputs, targets) in sweep.batches(epoch):
            step(freezer, inputs, targets)
        sweep.end_epoch()


def timed(way: Callable[[list[Freezer], int], None], options: argparse.Namespace, folder: str) -> Any:
    """Processor and wall seconds, and the weights that came of it."""
    freezers = variants(options, folder)
    cpu, wall = time.process_time(), time.perf_counter()
    way(freezers, options.epochs)
    took = time.process_time() - cpu, time.perf_counter() - wall
    weights = [value.clone() for freezer in freezers for value in freezer.model.state_dict().values()]
    for freezer in freezers:
        freezer.close()
    return *took, weights


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turn, at one cut."""
    turns = []
    with tempfile.TemporaryDirectory() as folder:
        timed(alone, options, folder)
        for _ in range(options.turns):
            turns.append((timed(alone, options, folder), timed(swept, options, folder)))
    cpu = [its[0] / mine[0] for mine, its in turns]
    return {
        "variants": options.variants,
        "cut": options.cut,
        "samples": options.samples,
        "epochs": options.epochs,
        "memory_budget": options.memory_budget,
        "turns": options.turns,
        "ratio": statistics.median(cpu),
        "low": min(cpu),
        "high": max(cpu),
        "alone_cpu_seconds": statistics.median(mine[0] for mine, _ in turns),
        "swept_cpu_seconds": statistics.median(its[0] for _, its in turns),
        "alone_seconds": statistics.median(mine[1] for mine, _ in turns),
        "swept_seconds": statistics.median(its[1] for _, its in turns),
        "differing_tensors": max(
            sum(not torch.equal(a, b) for a, b in zip(one[2], other[2], strict=True)) for one, other in turns
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=8)
    parser.add_argument("--cut", nargs="+", default=["layer1", "layer2"])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--memory-budget", type=int, default=0, help="bytes that each reading may keep in memory")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--note", help="what else the machine did, for the record")
    parser.add_argument("--out", type=Path, help="a JSON file with all the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| variants | cut | sweep to separate | from | to | separate, s | sweep, s | differing |")
    print("|---|---|---|---|---|---|---|---|")
    runs = []
    for cut in options.cut:
        found = measured(argparse.Namespace(**{**vars(options), "cut": cut}))
        runs.append(found)
        print(
            f"| {options.variants} | `{cut}` | {found['ratio']:.3f} | {found['low']:.3f} | {found['high']:.3f} | "
            f"{found['alone_cpu_seconds']:.1f} | {found['swept_cpu_seconds']:.1f} | {found['differing_tensors']} |",
            flush=True,
        )
        if options.out is not None:
            options.out.write_text(json.dumps({"note": options.note, "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
