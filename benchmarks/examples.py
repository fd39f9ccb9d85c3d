"""The examples, each the three ways that it trains: everything, conventional freezing, and with stored features.

Measures: processor seconds of training with all that is built for it, relative to the plain loop; and the example's own
figure (accuracy, error, ...) behind it.
On: what each example trains on, at its own size.
Repeats: `--seeds` (3 by default), the three ways in turn in each; mean and spread (standard deviation).

    python benchmarks/examples.py --only segmentation regression --seeds 3
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from measuring.record import write_record

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "three_ways")


def train(name: str, seeds: int, sizes: dict[str, int]) -> dict[str, dict[str, list[float]]]:
    """Each way's seconds and figure, by seed."""
    three_ways, example = importlib.import_module("three_ways"), importlib.import_module(name)
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        three_ways.SEED = seed
        for way, outcome in example.main(**sizes).items():
            of = found.setdefault(way, {"cpu_seconds": [], "seconds": [], "figure": []})
            for field, values in of.items():
                values.append(getattr(outcome, field))
    return found


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values) if len(values) > 1 else 0:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, help="in place of each example's own")
    parser.add_argument("--epochs", type=int, help="likewise")
    parser.add_argument("--out", type=Path, help="a JSON file with all the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, str(EXAMPLES))
    sizes = {name: getattr(options, name) for name in ("samples", "epochs") if getattr(options, name) is not None}
    found: dict[str, Any] = {}
    for name in options.only:
        print(f"\n{name}")
        found[name] = train(name, options.seeds, sizes)
        if options.out is not None:
            write_record(options.out, options, examples=found)
    print("\n| example | way | time, of the plain loop's | figure |\n|---|---|---|---|")
    for name, ways in found.items():
        plain = next(iter(ways.values()))["cpu_seconds"]
        for way, of in ways.items():
            ratios = [mine / whole for mine, whole in zip(of["cpu_seconds"], plain, strict=True)]
            print(f"| {name} | {way} | {spread(ratios)} | {spread(of['figure'])} |")


if __name__ == "__main__":
    main()
