"""Tables of policies and of what is frozen: costs and gains, whether a budget is kept, how well a predictor judges."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from markdown_tables import moved, spread, table

FULL = "none"


def rival(runs: Sequence[Any], run: Any) -> float:
    """Accuracy of full training of the same seed that takes as long, between the lengths that were run."""
    curve = [one for one in runs if one["policy"] == FULL and one["seed"] == run["seed"]]
    whole = statistics.median(one["seconds"] / one["share"] for one in curve)
    points = sorted((one["share"], one["accuracy"]) for one in curve)
    return float(np.interp(run["seconds"] / whole, *zip(*points, strict=True)))


def policies(record: Any) -> str:
    """One line a policy and length: mean and deviation over the seeds, the depths of the first."""
    runs, hooks = record["records"], record["hooks"]
    whole = {run["seed"]: run for run in runs if run["policy"] == FULL and run["share"] == 1}
    rows = []
    for name, share in dict.fromkeys((run["policy"], run["share"]) for run in runs):
        mine = [run for run in runs if (run["policy"], run["share"]) == (name, share) and run["seed"] in whole]
        if not mine:
            continue
        pairs = [(run, whole[run["seed"]]) for run in mine]
        flops = statistics.mean(run["flops"] / full["flops"] for run, full in pairs)
        rows.append(
            [
                name
                if name != FULL
                else "full training"
                if share == 1
                else f"full training, {share:.0%} of the epochs",
                spread([100 * run["accuracy"] for run in mine], 2),
                moved([run["accuracy"] - full["accuracy"] for run, full in pairs]),
                "" if name == FULL else moved([run["accuracy"] - rival(runs, run) for run in mine]),
                spread([full["seconds"] / run["seconds"] for run, full in pairs], 2),
                f"{flops:.0%}",
                f"{statistics.mean(run['bytes'] for run in mine) / 1e6:.1f}",
                f"{hooks[name]:.1%}" if name in hooks and share == 1 else "",
                f"{statistics.mean(run['watch_share'] for run in mine):.1%}",
                " ".join(map(str, mine[0]["depths"])),
            ]
        )
    names = ["policy", "accuracy, %", "Δ to full training", "Δ to full training that ends as soon", "faster"]
    return table([*names, "of its FLOPs", "MB", "hooks", "probes", "depth in each epoch"], rows)


def kept(case: Any) -> bool:
    return bool(0.9 <= case["seconds"] / case["allowed"] <= 1.1)


def budget(record: Any) -> str:
    rows = [
        [
            case["model"],
            f"{case['allowed']:.0f} s" if case["target"] == "time" else case["target"],
            f"{case['allowed']:.1f}",
            f"{case['seconds']:.1f}",
            f"{case['seconds'] / case['allowed']:.2f}",
            "yes" if kept(case) else "no",
            f"{statistics.mean(case['full_seconds']) / case['seconds']:.2f}",
            f"{100 * case['delta']:+.2f}",
            " ".join(map(str, case["depths"])),
        ]
        for case in record["cases"]
    ]
    names = ["model", "asked", "allowed, s", "taken, s", "taken / allowed", "kept", "full / taken", "Δ accuracy"]
    return table([*names, "depths"], rows)


def smartfrz(record: Any) -> str:
    rows = [
        [
            one["family"],
            f"{100 * one['settled']:.0f} %",
            one["way"],
            *(f"{100 * one[name]:.1f} %" for name in ("accuracy", "balanced", "precision", "found")),
        ]
        for one in record["records"]
    ]
    return table(["held out", "settled", "judged by", "accuracy", "balanced", "precision", "found"], rows)


def against(record: Any, kind: str, base: str) -> Iterator[tuple[str, str, list[Any], list[str]]]:
    """Of each case and way: its runs, and accuracies with differences to `base` of the same seed."""
    runs = record["runs"]
    beside = {(run["case"], run["seed"]): run for run in runs if run[kind] == base}
    cases = dict.fromkeys(run["case"] for run in runs)
    ways = dict.fromkeys(run[kind] for run in runs)
    for case, way in ((case, way) for case in cases for way in ways):
        mine = [run for run in runs if (run["case"], run[kind]) == (case, way)]
        cells = []
        for accuracy in ("accuracy", "augmented"):
            cells.append(f"{100 * statistics.mean(run[accuracy] for run in mine):.2f}" if mine else "")
            pairs = [(run, beside[case, run["seed"]]) for run in mine if (case, run["seed"]) in beside]
            cells.append(
                moved([run[accuracy] - other[accuracy] for run, other in pairs]) if pairs and way != base else ""
            )
        if mine:
            yield case, way, mine, cells


def settle(record: Any) -> str:
    rows = []
    for case, way, runs, cells in against(record, "settle", "last"):
        jumps = [statistics.mean(column) for column in zip(*(run["jumps"] for run in runs), strict=True)]
        rows.append([case, way, str(len(runs)), *cells, " ".join(f"{jump:+.3f}" for jump in jumps)])
    return table(["training", "settle", "seeds", "plain, %", "Δ to last", "augmented, %", "Δ to last", "jump"], rows)


def stored_views(record: Any) -> str:
    rows = []
    for case, way, runs, cells in against(record, "way", "live"):
        stored = ", ".join(str(count) for count in runs[0]["views"]) if way != "live" else ""
        size = f"{statistics.mean(sum(run['bytes']) for run in runs) / 1e6:.1f}" if way != "live" else ""
        rows.append([case, way, stored, str(len(runs)), *cells, size])
    return table(
        ["training", "views", "stored", "seeds", "plain, %", "Δ to live", "augmented, %", "Δ to live", "MB"], rows
    )


TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "budget": ("budget.json", budget),
    "policies": ("policies.json", policies),
    "settle": ("settle.json", settle),
    "smartfrz": ("smartfrz.json", smartfrz),
    "stored views": ("stored_views.json", stored_views),
}

DERIVED: dict[str, Callable[[Any], list[float]]] = {
    "budget.json": lambda record: [100 / len(case["depths"]) for case in record["cases"]],
}
"""An epoch, in per cent of a run."""
