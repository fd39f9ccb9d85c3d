"""Which rate and length suit full fine-tuning in the demo's second story: its best is Hoarfrost's rival there.

Measures: accuracy on the plain and on the augmented test images at the end of full fine-tuning.
On: the story as `hoarfrost.demo.finetuning` tells it (EfficientNet-Lite0 with its ImageNet weights, 2,000 embedded
images at 64 pixels, SGD, cosine schedule), at each of `--rate` for each of `--epochs`, examined on `--tests` images.
One thread.
Repeats: one seed. Runs that `--out` holds are not repeated.

    python benchmarks/finetuning_rates.py --rate 0.005 --rate 0.02 --epochs 6
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hoarfrost.data import open_data
from hoarfrost.demo import finetuning
from hoarfrost.demo.story import Arm
from hoarfrost.running import Examination, describe_machine


def run(rate: float, epochs: int, options: argparse.Namespace) -> dict[str, Any]:
    story, _ = finetuning(options.seed, samples=options.samples, curve=False)
    tests = open_data("embedded").test.first(options.tests)  # type: ignore[attr-defined]
    plain, augmented = (
        Examination(tests, transform, channels_last=True) for transform in (story.test_transform, story.train_transform)
    )
    story = replace(story, plain=plain, augmented=augmented)
    done = story.run(Arm("full fine-tuning", epochs, lr=rate), options.out.parent / "finetuning_rates")
    return {
        "rate": rate,
        "epochs": epochs,
        "seed": options.seed,
        "samples": options.samples,
        "tests": options.tests,
        "accuracy": done.accuracy,
        "augmented": done.augmented_accuracy,
        "seconds": done.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, action="append")
    parser.add_argument("--epochs", type=int, action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--tests", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/finetuning_rates.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    told = json.loads(options.out.read_text()) if options.out.exists() else {"machine": describe_machine(), "runs": []}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for epochs in options.epochs or (6, 10):
        for rate in options.rate or (0.005, 0.01, 0.02, 0.05, 0.1):
            if any((r["rate"], r["epochs"], r["seed"]) == (rate, epochs, options.seed) for r in told["runs"]):
                continue
            told["runs"].append(run(rate, epochs, options))
            options.out.write_text(json.dumps(told, indent=1) + "\n")
            last = told["runs"][-1]
            print(f"{epochs} epochs at {rate}: {last['accuracy']:.2%} / {last['augmented']:.2%}", flush=True)


if __name__ == "__main__":
    main()
