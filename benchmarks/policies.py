"""All policies on the same model, data and seeds: accuracy, time, FLOPs, bytes, depths, and what watching costs.

Measures, for each policy of `hoarfrost.policies.NAMED` with its defaults, and for a few schedules: test accuracy at the
end, processor seconds of the training (builds and probes included), training FLOPs, the most bytes of features on disk,
the depth in each epoch. Processor seconds, for policies that look at the clock too, since the machine may have other
work.
The honest rival is full training of the same seed that ends as soon: it is run at `--shorter` of the epochs too, its
learning rate falling to zero in that time, and its accuracy is interpolated at the policy's own share of the seconds.
Watching: steps of the first epoch with the policy's hooks and of plain training by turns, the median of the ratios
less one; and beside it the seconds of probes as a share of the run.
On: cifar_resnet, embedded Fashion-MNIST images, random flips and crops, SGD with a cosine schedule. One thread.
Fronts freeze as `--settle` says, by default as the library's.
Repeats: `--seeds` seeds, `--repeats` times the first epoch. Runs that `--out` holds are not repeated.

    python benchmarks/policies.py --seeds 3 --out runs/benchmarks/policies.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.data import open_data
from hoarfrost.models import cifar_resnet
from hoarfrost.policies import NAMED, Egeria, Never, Policy, Schedule
from hoarfrost.running import fit
from hoarfrost.settings.keywords import SETTLE
from measuring.record import write_record
from measuring.shown import shown

NORMALISE = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
TRAIN = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(28, padding=4), *NORMALISE])


LATER = {
    "schedule 30 %, 50 %": (0.3, 0.5),
    "schedule 40 %, 60 %": (0.4, 0.6),
    "schedule 50 %, 70 %": (0.5, 0.7),
    "schedule 60 %, 80 %": (0.6, 0.8),
}
"""Layer1 and layer2 frozen from these shares of the epochs on."""

NAMES = (*sorted(set(NAMED) - {"frozen"}), *LATER)
"""`frozen` decides nothing: it takes over what the user's own model has frozen."""

FULL = "none"


def policy_of(name: str, epochs: int) -> Policy:
    """The policy of that name; Egeria without its thaw, which a cosine schedule would set off."""
    if name in LATER:
        first, second = (max(1, round(share * epochs)) for share in LATER[name])
        return Schedule({first: "layer1", max(second, first + 1): "layer2"})
    return Egeria(thaw_at=None) if name == "egeria" else NAMED[name]()


def freezer_of(
    policy: Policy, seed: int, epochs: int, samples: int, settle: str = "auto"
) -> tuple[Freezer, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = cifar_resnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    data = open_data("embedded").train.first(samples)
    told: dict[str, Any] = {"batch_size": 64, "epochs": epochs, "transform": TRAIN, "seed": seed, "settle": settle}
    return Freezer(model, data, policy=policy, optimizer=optimizer, **told), optimizer


def accuracy_of(model: nn.Module, shown: Sequence[Any], tests: int) -> float:
    """On held-out images, shown by these transforms."""
    data = open_data("embedded").test.first(tests)
    data.transform = v2.Compose(shown)
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        right = sum((model(images).argmax(1) == targets).sum().item() for images, targets in DataLoader(data, 256))
    for module, flag in flags:
        module.training = flag
    return right / len(data)


def run(name: str, seed: int, epochs: int, told: argparse.Namespace) -> dict[str, Any]:
    """One training, from the first step to the last: `epochs` epochs where full training has `told.epochs`."""
    freezer, optimizer = freezer_of(policy_of(name, epochs), seed, epochs, told.samples, told.settle)
    with freezer:
        began = time.process_time()
        fit(freezer, optimizer, epochs=epochs)
        seconds = time.process_time() - began
        done = [record for record in freezer.history if record["event"] == "epoch"]
        return {
            "policy": name,
            "seed": seed,
            "epochs": epochs,
            "share": epochs / told.epochs,
            "accuracy": accuracy_of(freezer.model, NORMALISE, told.tests),
            "seconds": seconds,
            "flops": sum(record["train_flops"] for record in done),
            "bytes": max(record["cache_bytes"] for record in done),
            "depths": [record["depth"] for record in done],
            "watch_share": done[-1]["watch_seconds"] / freezer.training_seconds,
        }


def step_seconds(freezer: Freezer, optimizer: torch.optim.Optimizer, repeats: int) -> Iterator[float]:
    """Of each step of the first epoch, again and again; the time to fetch images is not counted."""
    for _ in range(repeats):
        for images, targets in freezer.batches(0):
            began = time.process_time()
            optimizer.zero_grad()
            F.cross_entropy(freezer(images), targets).backward()
            optimizer.step()
            yield time.process_time() - began


def hook_share(name: str, repeats: int, samples: int, epochs: int) -> float:
    """What the policy's hooks add to a step, as a share of it: steps with and without them by turns."""
    with ExitStack() as stack:
        runs = []
        for policy in (policy_of(name, epochs), Never()):
            freezer, optimizer = freezer_of(policy, 0, epochs, samples)
            stack.enter_context(freezer)
            runs.append(step_seconds(freezer, optimizer, repeats))
        return statistics.median(watched / plain for watched, plain in zip(*runs, strict=True)) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", action="append", choices=NAMES, help="only these; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shorter", type=float, nargs="*", default=[0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    parser.add_argument("--settle", choices=SETTLE, default="auto")
    parser.add_argument("--smoke", action="store_true", help="a few images and epochs: only to see it run")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/policies.json"), help="all records, as JSON")
    told = parser.parse_args()
    if told.smoke:
        told.seeds, told.epochs, told.samples, told.tests, told.repeats, told.shorter = 1, 4, 128, 64, 1, [0.5]
    torch.set_num_threads(1)
    time.perf_counter = time.process_time
    names = told.policy or NAMES
    found = json.loads(told.out.read_text()) if told.out.exists() else {"records": [], "hooks": {}}
    records, hooks = found["records"], found["hooks"]
    lengths = [(FULL, max(1, round(share * told.epochs))) for share in (1, *told.shorter)]
    for seed in range(told.seeds):
        for name, epochs in dict.fromkeys([*lengths, *((name, told.epochs) for name in names)]):
            if any((r["policy"], r["seed"], r["epochs"]) == (name, seed, epochs) for r in records):
                continue
            records.append(run(name, seed, epochs, told))
            write_record(told.out, told, records=records, hooks=hooks)
            print(f"seed {seed}, {name}, {epochs} epochs: {records[-1]['accuracy']:.2%}", flush=True)
    for name in names:
        if name not in hooks:
            hooks[name] = hook_share(name, told.repeats, min(told.samples, 1280), told.epochs)
            write_record(told.out, told, records=records, hooks=hooks)
    print(shown("policies", told.out))


if __name__ == "__main__":
    main()
