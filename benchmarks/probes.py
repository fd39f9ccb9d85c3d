"""Freezing from the start of a fine-tuning: through Hoarfrost, and by those who would do without it.

Measures: accuracy on the plain and on the augmented test images; seconds of training with what is measured and built
for it; processor seconds of the same, both examinations included. The arms: the front up to `blocks.9` frozen, and all
but the classifier (a linear probe), each through Hoarfrost and by conventional freezing (`mode="recompute"`: the frozen
part runs in every epoch, on freshly augmented images); and the rival that people pick first beside a probe, a logistic
regression on embeddings.
On: the demo's second story (`hoarfrost.demo.finetuning`). One thread.
Repeats: `--seeds` seeds; whether an arm or its conventional twin comes first changes from seed to seed.

    python benchmarks/probes.py --seeds 3 --out benchmarks/results/probes.json
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hoarfrost.demo import finetuning
from hoarfrost.demo.embeddings import Embeddings, run_on_embeddings
from hoarfrost.running import describe_machine

CONVENTIONAL = "{}, conventional freezing"


def arms_of(seed: int, **sizes: Any) -> tuple[Any, list[Any]]:
    """The story, and its arms that freeze, each with its conventional twin."""
    story, arms = finetuning(seed, curve=False, **sizes)
    found: list[Any] = []
    for arm in arms:
        if isinstance(arm, Embeddings):
            found.append(arm)
        elif arm.freezer["policy"] != "none":
            twin = replace(arm, name=CONVENTIONAL.format(arm.name), freezer={**arm.freezer, "mode": "recompute"})
            found += [twin, arm] if seed % 2 else [arm, twin]
    return story, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--note", default="", help="a sentence for the record: on what it was measured")
    parser.add_argument("--smoke", action="store_true", help="a few images and epochs: only to see it run")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/probes.json"))
    options = parser.parse_args()
    sizes = {"epochs": 1, "samples": 128, "tests": 32} if options.smoke else {}
    torch.set_num_threads(1)
    told: dict[str, Any] = {"machine": describe_machine(), "note": options.note, "runs": []}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        story, arms = arms_of(seed, **sizes)
        for arm in arms:
            began, folder = time.process_time(), options.out.parent / "probes" / str(seed)
            done = run_on_embeddings(story, arm, folder) if isinstance(arm, Embeddings) else story.run(arm, folder)
            told["runs"].append(
                {
                    "arm": arm.name,
                    "seed": seed,
                    "epochs": arm.epochs,
                    "accuracy": done.accuracy,
                    "augmented": done.augmented_accuracy,
                    "seconds": done.seconds,
                    "process_seconds": time.process_time() - began,
                    "views": [record["views"] for record in done.freezes],
                    "channels": [record["stored_channels"] for record in done.freezes],
                    "why": [record["further"]["why"] for record in done.freezes if record["views"] > 1],
                }
            )
            options.out.write_text(json.dumps(told, indent=1) + "\n")
            print(
                f"seed {seed}, {arm.name}: {done.accuracy:.2%} / {done.augmented_accuracy:.2%}, {done.seconds:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
