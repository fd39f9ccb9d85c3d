"""A linear probe through Hoarfrost beside the rival that people pick first: a logistic regression on embeddings.

Measures: accuracy on the plain and on the augmented test images, and processor seconds, both examinations included.
On: the arms of the demo's second story (`hoarfrost.demo.finetuning`). One thread.
Repeats: `--seeds` seeds, the two arms by turns.

    python benchmarks/probes.py --seeds 2
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from hoarfrost.demo import finetuning
from hoarfrost.demo.embeddings import Embeddings, run_on_embeddings
from hoarfrost.running import describe_machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a few images and epochs: only to see it run")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/probes.json"))
    options = parser.parse_args()
    sizes = {"epochs": 1, "samples": 128, "tests": 32} if options.smoke else {}
    torch.set_num_threads(1)
    told = {"machine": describe_machine(), "runs": []}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        story, arms = finetuning(seed, curve=False, **sizes)
        for arm in arms:
            if arm.name != "linear probe" and not isinstance(arm, Embeddings):
                continue
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
                }
            )
            options.out.write_text(json.dumps(told, indent=1) + "\n")
            print(f"seed {seed}, {arm.name}: {done.accuracy:.2%} / {done.augmented_accuracy:.2%}", flush=True)


if __name__ == "__main__":
    main()
