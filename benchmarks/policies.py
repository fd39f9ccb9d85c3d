"""All policies on the same model, data and seeds: accuracy, time, FLOPs, bytes, depths, and what watching costs.

Measures, for each policy of `hoarfrost.policies.NAMED` with its defaults: test accuracy at the end, wall seconds of the
training (builds and probes included, evaluation not), training FLOPs, the most bytes of features on disk, the depth in
each epoch. "full, shorter" is plain training shortened to `--shorter` of the epochs: the honest rival.
Watching: the first epoch's steps with the policy's hooks against those of plain training, in turn, the median of the
ratios less one; and beside it the seconds of probes as a share of the run. On a busy machine both are noisy.
On: cifar_resnet, embedded Fashion-MNIST images, random flips and crops, SGD with a cosine schedule.
Repeats: `--seeds` seeds, `--repeats` pairs of first epochs.

    python benchmarks/policies.py --seeds 3 --out policies.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
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
from hoarfrost.policies import NAMED, Egeria, Never, Policy
from hoarfrost.training import fit

NORMALISE = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
TRAIN = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(28, padding=4), *NORMALISE])
TEST = v2.Compose(NORMALISE)


def policy_of(name: str) -> Policy:
    """The policy of that name; Egeria without its thaw, which a cosine schedule would set off."""
    return Egeria(thaw_at=None) if name == "egeria" else NAMED[name]()


def freezer_of(policy: Policy, seed: int, epochs: int, samples: int) -> tuple[Freezer, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = cifar_resnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    data = open_data("embedded").train.first(samples)
    freezer = Freezer(
        model, data, batch_size=64, epochs=epochs, transform=TRAIN, policy=policy, optimizer=optimizer, seed=seed
    )
    return freezer, optimizer


def accuracy(model: nn.Module, tests: int) -> float:
    """On held-out images."""
    data = open_data("embedded").test.first(tests)
    data.transform = TEST
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        right = sum((model(images).argmax(1) == targets).sum().item() for images, targets in DataLoader(data, 256))
    for module, flag in flags:
        module.training = flag
    return right / len(data)


def run(name: str, policy: Policy, seed: int, epochs: int, samples: int, tests: int) -> dict[str, Any]:
    """One training, from the first step to the last."""
    freezer, optimizer = freezer_of(policy, seed, epochs, samples)
    with freezer:
        fit(freezer, optimizer, epochs=epochs)
        told = [record for record in freezer.history if record["event"] == "epoch"]
        return {
            "policy": name,
            "seed": seed,
            "accuracy": accuracy(freezer.model, tests),
            "seconds": freezer.training_seconds,
            "flops": sum(record["train_flops"] for record in told),
            "bytes": max(record["cache_bytes"] for record in told),
            "depths": [record["depth"] for record in told],
            "watch_share": told[-1]["watch_seconds"] / freezer.training_seconds,
        }


def first_epoch_seconds(policy: Policy, samples: int, epochs: int) -> float:
    """The steps of the first epoch; the time to fetch images is not counted."""
    freezer, optimizer = freezer_of(policy, 0, epochs, samples)
    seconds = 0.0
    with freezer:
        for images, targets in freezer.batches(0):
            began = time.perf_counter()
            optimizer.zero_grad()
            F.cross_entropy(freezer(images), targets).backward()
            optimizer.step()
            seconds += time.perf_counter() - began
    return seconds


def hook_share(name: str, repeats: int, samples: int, epochs: int) -> float:
    """What the policy's hooks add to a step, as a share of it."""
    pairs = [
        first_epoch_seconds(policy_of(name), samples, epochs) / first_epoch_seconds(Never(), samples, epochs)
        for _ in range(repeats)
    ]
    return statistics.median(pairs) - 1


def table(records: Sequence[dict[str, Any]], hooks: dict[str, float]) -> str:
    """One line a policy: means over the seeds, the depths of the first."""
    lines = [
        "| policy | accuracy | seconds | TFLOP | MB | hooks | probes | depth in each epoch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(record["policy"] for record in records):
        mine = [record for record in records if record["policy"] == name]
        mean = {key: statistics.mean(r[key] for r in mine) for key in ("accuracy", "seconds", "flops", "bytes")}
        probes = statistics.mean(r["watch_share"] for r in mine)
        lines.append(
            f"| {name} | {mean['accuracy']:.2%} | {mean['seconds']:.1f} | {mean['flops'] / 1e12:.3g} | "
            f"{mean['bytes'] / 1e6:.1f} | {f'{hooks[name]:.1%}' if name in hooks else ''} | {probes:.1%} | "
            f"{' '.join(map(str, mine[0]['depths']))} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", action="append", choices=sorted(NAMED), help="only these; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--samples", type=int, default=6000)
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shorter", type=float, default=0.7)
    parser.add_argument("--smoke", action="store_true", help="a few images and epochs: only to see it run")
    parser.add_argument("--out", type=Path, help="write all records here, as JSON")
    told = parser.parse_args()
    if told.smoke:
        told.seeds, told.epochs, told.samples, told.tests, told.repeats = 1, 4, 128, 64, 1
    names = told.policy or sorted(NAMED)
    records = []
    for seed in range(told.seeds):
        for name in names:
            records.append(run(name, policy_of(name), seed, told.epochs, told.samples, told.tests))
        epochs = max(1, round(told.shorter * told.epochs))
        records.append(run("full, shorter", Never(), seed, epochs, told.samples, told.tests))
    hooks = {name: hook_share(name, told.repeats, min(told.samples, 1280), told.epochs) for name in names}
    print(table(records, hooks))
    if told.out is not None:
        told.out.write_text(json.dumps({"records": records, "hooks": hooks}, indent=1))


if __name__ == "__main__":
    main()
