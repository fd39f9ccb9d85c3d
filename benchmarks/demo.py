"""The demo's stories over several seeds: accuracy, time and bytes of each arm.

Measures: what `hoarfrost demo` shows, for each seed: accuracy on the plain and on the augmented test set, seconds of
training, calibration and builds, and of an epoch at each depth, seconds until full training's accuracy was reached,
FLOPs, bytes stored and of the same in fp32. The arms of a story run one after the other; times are compared as ratios
within one seed (`scripts/tables.py`), since machines are noisy.
On: the embedded Fashion-MNIST images (1,250 for training from scratch, 2,000 for fine-tuning, 2,000 for testing).
Repeats: `--seeds` (3 by default), each arm once a seed. A seed that `--out` holds with the same sizes is not repeated.
`--command` runs the demo itself instead, once, as `make demo` does, and keeps that beside the seeds.

    python benchmarks/demo.py --seeds 3 --out benchmarks/results/demo.json
    python benchmarks/demo.py --command --out benchmarks/results/demo.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from hoarfrost.demo import STORIES, Outcome, comparison, run_demo, run_story
from hoarfrost.running import describe_machine

Record = dict[str, Any]


def told(outcome: Outcome, rival: Outcome) -> Record:
    """An arm's figures; those of caches are one for each freeze."""
    caches = [record for record in outcome.freezes if record["cache_bytes"]]
    return {
        "arm": outcome.arm.name,
        "epochs": outcome.arm.epochs,
        "accuracy": outcome.accuracy,
        "augmented": outcome.augmented_accuracy,
        "seconds": round(outcome.seconds, 2),
        "seconds_to_full": outcome.seconds_to(rival.accuracy),
        "epoch_seconds": {cut: round(seconds, 3) for cut, seconds in outcome.epoch_seconds.items()},
        "flops": outcome.flops,
        "cache_bytes": [record["cache_bytes"] for record in caches],
        "dense_bytes": [record["dense_bytes"] for record in caches],
        "build_seconds": [round(record["build_seconds"], 2) for record in caches],
        "decisions": [record["decision"] for record in caches],
    }


def of_command(console: Console, seed: int = 0) -> Record:
    """What the command comes to, with as many threads as it takes; an arm that two stories share is told once."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = run_demo(Path(folder), seed=seed, console=console)
    seconds = round(time.perf_counter() - began)
    stories: list[Record] = []
    before: list[Outcome] = []
    for name, outcomes in found.items():
        arms = [told(outcome, outcomes[0]) for outcome in outcomes if outcome not in before]
        stories.append({"story": name, "seed": seed, "arms": arms})
        before += outcomes
    return {"threads": torch.get_num_threads(), "seconds": seconds, "stories": stories}


def write(record: Record, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--story", choices=STORIES, action="append", help="only this one; may be given several times")
    parser.add_argument("--epochs", type=int, help="of full training, instead of each story's own")
    parser.add_argument("--samples", type=int, help="training images, instead of each story's own")
    parser.add_argument("--command", action="store_true", help="run the demo itself instead, and keep it beside them")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/demo.json"))
    options = parser.parse_args()
    sizes = {name: value for name in ("epochs", "samples") if (value := getattr(options, name)) is not None}
    record: Record = json.loads(options.out.read_text()) if options.out.exists() else {"runs": []}
    console = Console()
    if options.command:
        record["make_demo"] = of_command(console)
        write(record, options.out)
        return
    record["machine"] = {**describe_machine(), "threads": torch.get_num_threads()}
    for seed in range(options.seeds):
        found: dict[str, list[Outcome]] = {}
        for name, (title, make) in STORIES.items():
            done = [run for run in record["runs"] if (run["story"], run["seed"], run["sizes"]) == (name, seed, sizes)]
            if done or name not in (options.story or STORIES):
                continue
            with tempfile.TemporaryDirectory() as folder:
                shared, arms = make(seed, **sizes)
                outcomes = run_story(f"{title}, seed {seed}", shared, arms, Path(folder), console, found)
            found[name] = outcomes
            console.print(comparison(title, outcomes).note, highlight=False)
            arms_told = [told(outcome, outcomes[0]) for outcome in outcomes]
            record["runs"].append({"story": name, "seed": seed, "sizes": sizes, "arms": arms_told})
            write(record, options.out)


if __name__ == "__main__":
    main()
