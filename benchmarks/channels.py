"""Where sensitive channels pay: accuracy against bytes, shares of a second view chosen by each criterion.

Measures: accuracy on test images as they are and under the training's augmentation (flips, padded crops), and the bytes
of the stored features. Of a second view the most sensitive share of the channels is stored, by cosine, harm, and
whatever else `Views(metric=)` takes of SSIM and PSNR, or a share drawn at random; the rest is derived. Beside it: the
whole second view at three and four bits, as differences to the derived one, three whole views, one view alone, and live
augmentation. All arms of one seed continue the same training.
On: crops of several sizes of the photos in scikit-image's wheel, which photo it is, for EfficientNet-Lite0 with its
ImageNet weights, frozen before the first epoch; Fashion-MNIST's embedded images for a small ResNet from scratch, frozen
after a third of the epochs.
Repeats: `--seeds`. The record says hardware, versions and sizes; a table of it is printed as Markdown.

    python benchmarks/channels.py --seeds 3 --out benchmarks/results/channels.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torchvision

from augment_study.arms import LADDER, WHOLE, Arm, RandomChannels
from augment_study.pretrained import lite, photo_data
from augment_study.runner import Plan, Study
from augment_study.subjects import DATA, KINDS
from hoarfrost import Selection, Views
from hoarfrost.errors import ArgumentError

METRICS = ("cosine", "harm", "ssim", "psnr")
SHARES = (0.25, 0.5)
LIVE, ONE = "live augmentation", "1 view"


def arms(shares: Sequence[float] = SHARES) -> Iterator[Arm]:
    """The ways of going on that are compared."""

    def stored(name: str, group: str, ladder: Any = LADDER, **views: Any) -> Arm:
        return Arm(name, group, options={"ladder": ladder, "views": Views(**views)})

    yield Arm(LIVE, "references", options={"mode": "recompute"})
    yield stored(ONE, "references", count=1)
    yield stored("share 0", "channels", count=2, channels=Selection(share=0.0))
    for share in shares:
        for metric in known_metrics():
            yield stored(
                f"share {share:g}, {metric}", "channels", count=2, channels=Selection(share=share), metric=metric
            )
        yield stored(f"share {share:g}, at random", "channels", count=2, channels=RandomChannels(share=share))
    yield stored("share 1", "channels", count=2, channels=WHOLE)
    for bits in (3, 4):
        yield stored(f"second view at {bits} bits", "instead", count=2, channels=WHOLE, bits=bits)
    yield stored("second view as differences", "instead", count=2, channels=WHOLE, residual=True)
    yield stored("3 views", "instead", count=3, channels=WHOLE)


def known_metrics() -> list[str]:
    """Those of the criteria that this version takes."""
    known = []
    for metric in METRICS:
        try:
            Views(2, metric=metric)
        except ArgumentError:
            continue
        known.append(metric)
    return known


def rows(subject: str, seed: int, given: argparse.Namespace, out: Sequence[Arm]) -> Iterator[dict[str, Any]]:
    """A record for each arm, from one start."""
    pretrained = subject == "lite"
    epochs = given.lite_epochs if pretrained else given.epochs
    plan = Plan(
        samples=given.lite_samples if pretrained else given.samples,
        tests=given.tests,
        epochs=epochs,
        freeze=0 if pretrained else max(1, epochs // 3),
        batch_size=given.batch_size,
    )
    study = Study("crops" if pretrained else "fashion", subject, seed, plan)
    for arm in out:
        # The statistics that the pretrained front came with: nothing in front of the cut was trained.
        told = replace(arm, options={**arm.options, "settle": "last"}) if pretrained else arm
        found = study.run(told)
        record = {
            name: found[name] for name in ("model", "seed", "arm", "accuracy", "augmented_accuracy", "cache_bytes")
        }
        record |= {"codec": found["codec"], "channels": found["channels"], "plan": plan.config}
        stored = found["stored_channels"]
        print(json.dumps(record)[:200], flush=True)
        yield record | {"stored_channels": None if stored is None else len(stored)}


def table(records: Sequence[dict[str, Any]]) -> str:
    """Means over seeds: bytes against one view, differences to live augmentation in points."""
    of: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        of[record["model"], record["arm"]].append(record)
    models = list(dict.fromkeys(model for model, _ in of))
    lines = ["| stored | " + " | ".join(f"{model}: bytes, plain / augmented" for model in models) + " |"]
    lines.append("|---" * (len(models) + 1) + "|")
    for arm in dict.fromkeys(name for _, name in of):
        cells = []
        for model in models:
            if not of[model, arm]:
                cells.append("–")
                continue
            pairs = [_compared(record, of[model, LIVE], of[model, ONE]) for record in of[model, arm]]
            size, plain, augmented = (statistics.fmean(column) for column in zip(*pairs, strict=True))
            cells.append(f"{size:.2f}x, {plain:+.1f} / {augmented:+.1f}")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _compared(
    record: dict[str, Any], live: Sequence[dict[str, Any]], one: Sequence[dict[str, Any]]
) -> tuple[float, float, float]:
    """Bytes against one view, and points of accuracy against live augmentation, of the same seed."""
    (beside,) = [other for other in live if other["seed"] == record["seed"]]
    (single,) = [other for other in one if other["seed"] == record["seed"]]
    points = [100 * (record[name] - beside[name]) for name in ("accuracy", "augmented_accuracy")]
    return record["cache_bytes"] / single["cache_bytes"], points[0], points[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("lite", "resnet"), action="append", help="default: both")
    parser.add_argument("--cut", default="blocks.4", help="of EfficientNet-Lite0")
    parser.add_argument("--size", type=int, default=64, help="pixels that photos are brought to")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, action="append", help="of the channels, once or more")
    numbers = {"samples": 1_040, "epochs": 18, "lite-samples": 520, "lite-epochs": 8, "tests": 1_040, "batch-size": 32}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/channels.json"))
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    DATA["crops"], KINDS["lite"] = photo_data(given.size), lite(given.cut)  # type: ignore[assignment]
    chosen = list(arms(given.share or SHARES))
    records: list[dict[str, Any]] = []
    told = {name: value for name, value in vars(given).items() if name not in ("out", "model", "share")}
    for seed in range(given.seeds):
        for subject in given.model or ("resnet", "lite"):
            for record in rows(subject, seed, given, chosen):
                records.append(record)
                given.out.parent.mkdir(parents=True, exist_ok=True)
                found = {
                    "hardware": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
                    "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
                    "options": told,
                    "records": records,
                }
                given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(records))


if __name__ == "__main__":
    main()
