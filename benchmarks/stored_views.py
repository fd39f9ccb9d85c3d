"""How many stored views a training needs whose front is frozen from the start, or late, and what a gentler rung adds.

Measures: accuracy at the end on the plain test images and on the same moved as in training, that of the training's last
epoch, and bytes stored, for 1, 2, 4 and 8 stored views, some of them with a share of the chunks moved in feature space
in each epoch, for the default ("auto"), that at a tenth of the tolerance, and for live augmentation (the same freezes,
recomputed); Δ to live augmentation seed by seed.
On: the cases of `benchmarks/settle.py` (`--case`): "resnet, from the start" and "scratch" unless others are named.
Repeats: `--seeds` seeds. Runs that `--out` holds are not repeated.

    python benchmarks/stored_views.py --seeds 3
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torchvision.transforms import v2

from hoarfrost import Freezer, Views
from hoarfrost.running import Examination, fit
from settle import CASES, LARGE, images, over_seeds, sgd, spread

WAYS: dict[str, dict[str, Any]] = {
    "live": {"mode": "recompute"},
    "1": {"views": 1, "mode": "cache"},
    "2": {"views": 2, "mode": "cache"},
    "4": {"views": 4, "mode": "cache"},
    "8": {"views": 8, "mode": "cache"},
    "2, half moved": {"views": Views(2, derived=0.5), "mode": "cache"},
    "4, half moved": {"views": Views(4, derived=0.5), "mode": "cache"},
    "4, a quarter moved": {"views": Views(4, derived=0.25), "mode": "cache"},
    "auto": {"mode": "cache"},
    "auto, tolerance 1e-4": {"mode": "cache", "tolerance": 1e-4},
}


def run(name: str, way: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    case = CASES[name]
    epochs, samples = options.epochs or case.epochs, options.samples or case.samples
    torch.manual_seed(seed)
    model = case.make()
    torch.manual_seed(seed)
    optimizer, data = sgd(model, case.rate), images("train", samples, case.classes)
    still, moved = v2.Compose([LARGE] * (LARGE in case.random) + [*case.shown]), v2.Compose([*case.random, *case.shown])
    told: dict[str, Any] = {"batch_size": 64, "epochs": epochs, "policy": dict(case.points), "seed": seed, **WAYS[way]}
    with Freezer(model, data, transform=moved, optimizer=optimizer, verbose=False, **told) as freezer:
        fit(freezer, optimizer, epochs=epochs)
        tests = images("test", options.tests, case.classes)
        plain, augmented = (Examination(tests, shown)(freezer.model)["accuracy"] for shown in (still, moved))
        freezes = [record for record in freezer.history if record["event"] == "freeze"]
        done = [record for record in freezer.history if record["event"] == "epoch"]
    return {
        "case": name,
        "way": way,
        "seed": seed,
        "epochs": epochs,
        "samples": samples,
        "tests": len(tests),
        "accuracy": plain,
        "augmented": augmented,
        "training": done[-1]["accuracy"],
        "views": [record["views"] for record in freezes],
        "bytes": [record["cache_bytes"] for record in freezes],
    }


def table(records: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| training | views | stored | plain, % | augmented, % | Δ to live, plain / augmented | training, % | kB |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    live = {(r["case"], r["seed"]): r for r in records if r["way"] == "live"}
    for case, way in dict.fromkeys((r["case"], r["way"]) for r in records):
        mine = [r for r in records if (r["case"], r["way"]) == (case, way)]
        plain, augmented, training = (
            f"{100 * statistics.mean(r[kind] for r in mine):.2f}" for kind in ("accuracy", "augmented", "training")
        )
        paired = [(r, live[case, r["seed"]]) for r in mine if (case, r["seed"]) in live]
        deltas = [[100 * (r[kind] - other[kind]) for r, other in paired] for kind in ("accuracy", "augmented")]
        told = " / ".join(map(spread, deltas)) if way != "live" and paired else ""
        stored = ", ".join(map(str, mine[0]["views"]))
        kilobytes = ", ".join(
            f"{statistics.mean(column) / 1000:.0f}" for column in zip(*(r["bytes"] for r in mine), strict=True)
        )
        lines.append(f"| {case} | {way} | {stored} | {plain} | {augmented} | {told} | {training} | {kilobytes} |")
    return "\n".join(lines)


def main() -> None:
    cases = ("resnet, from the start", "scratch")
    out = "stored_views.json"
    print(table(over_seeds(__doc__, "way", WAYS, run, out=out, cases=cases, smoke=["live", "auto"])))


if __name__ == "__main__":
    main()
