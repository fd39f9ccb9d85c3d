"""How many stored views a training needs whose front is frozen from the start, or late, and what a gentler rung adds.

Measures: accuracy at the end on the plain test images and on the same moved as in training, that of the training's last
epoch, and bytes stored, for 1, 2, 4 and 8 stored views, for the default ("auto"), that at a tenth of the tolerance, and
for live augmentation (the same freezes, recomputed); Δ to live augmentation seed by seed.
On: the cases of `benchmarks/settle.py` (`--case`): "resnet, from the start" and "scratch" unless others are named.
Repeats: `--seeds` seeds. Runs that `--out` holds are not repeated.

    python benchmarks/stored_views.py --seeds 3
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.running import Examination, describe_machine, fit
from settle import CASES, LARGE, images, sgd

WAYS: dict[str, dict[str, Any]] = {
    "live": {"mode": "recompute"},
    "1": {"views": 1, "mode": "cache"},
    "2": {"views": 2, "mode": "cache"},
    "4": {"views": 4, "mode": "cache"},
    "8": {"views": 8, "mode": "cache"},
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
        told = " / ".join(map(_spread, deltas)) if way != "live" and paired else ""
        stored = ", ".join(map(str, mine[0]["views"]))
        kilobytes = ", ".join(
            f"{statistics.mean(column) / 1000:.0f}" for column in zip(*(r["bytes"] for r in mine), strict=True)
        )
        lines.append(f"| {case} | {way} | {stored} | {plain} | {augmented} | {told} | {training} | {kilobytes} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.2f}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="in place of each case's own")
    parser.add_argument("--samples", type=int, help="in place of each case's own")
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--smoke", action="store_true", help="a few images and epochs: only to see it run")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/stored_views.json"))
    options = parser.parse_args()
    if options.smoke:
        options.seeds, options.epochs, options.samples, options.tests = 1, 3, 128, 64
        options.case, options.way = ["scratch, early"], ["live", "auto"]
    torch.set_num_threads(1)
    told = json.loads(options.out.read_text()) if options.out.exists() else {"machine": describe_machine(), "runs": []}
    records = told["runs"]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for name in options.case or ("resnet, from the start", "scratch"):
            for way in options.way or WAYS:
                if any((r["case"], r["way"], r["seed"]) == (name, way, seed) for r in records):
                    continue
                records.append(run(name, way, seed, options))
                options.out.write_text(json.dumps(told, indent=1) + "\n")
                print(f"seed {seed}, {name}, {way}: {records[-1]['accuracy']:.2%}", flush=True)
    print(table(records))


if __name__ == "__main__":
    main()
