"""What a front is frozen as: its last weights, these with batch-norm statistics estimated anew, or averaged weights.

Measures: the accuracy at the end, for each way of `Freezer(..., settle=...)`, and as Δ to "last" of the same seed; and
the jump at each freeze: the loss of the same training images just behind it less that just in front of it, all that
trains normalising by the batch, what is frozen by its running statistics; with the seconds of the freeze itself.
On: "scratch": cifar_resnet on embedded Fashion-MNIST images with random flips and crops, layer1 and layer2 frozen after
40 and 60 % of the epochs; "early": the same after 5 and 10 %; "fine-tuning": EfficientNet-Lite0 with its ImageNet
weights, blocks.9 frozen after the first epoch, the same images at 64 pixels. SGD with a cosine schedule. One thread.
Repeats: `--seeds` seeds. Runs that `--out` holds are not repeated.

    python benchmarks/settle.py --seeds 3
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.data import open_data
from hoarfrost.models import cifar_resnet, efficientnet_lite0
from hoarfrost.running import fit
from hoarfrost.settings.keywords import SETTLE
from policies import accuracy_of


@dataclass(frozen=True)
class Subject:
    """A training: its model, the images as they are shown, and where it freezes, as shares of the epochs."""

    make: Callable[[], nn.Module]
    shown: Sequence[Any]
    random: Sequence[Any]
    points: dict[float, str]
    rate: float
    samples: int
    epochs: int


GREY = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
COLOUR = [
    v2.ToImage(),
    v2.Resize(64),
    v2.Grayscale(3),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize([0.5], [0.5]),
]
SCRATCH = Subject(
    cifar_resnet,
    GREY,
    [v2.RandomHorizontalFlip(), v2.RandomCrop(28, padding=4)],
    {0.4: "layer1", 0.6: "layer2"},
    0.1,
    3000,
    20,
)
SUBJECTS = {
    "scratch": SCRATCH,
    "early": replace(SCRATCH, points={0.05: "layer1", 0.1: "layer2"}),
    "fine-tuning": Subject(
        lambda: efficientnet_lite0(10), COLOUR, [v2.RandomHorizontalFlip()], {0.0: "blocks.9"}, 0.02, 1000, 6
    ),
}


def loss_in_training(call: Callable[[Any], Tensor], module: nn.Module, inputs: Any, targets: Tensor) -> float:
    """Of one large batch; nothing of `module` is changed by it."""
    buffers = copy.deepcopy([buffer.clone() for buffer in module.buffers()])
    with torch.no_grad():
        loss = F.cross_entropy(call(inputs), targets).item()
        for buffer, before in zip(module.buffers(), buffers, strict=True):
            buffer.copy_(before)
    return loss


def watched(freezer: Freezer, images: Tensor, targets: Tensor) -> list[tuple[float, float]]:
    """Fills with what each freeze does to the loss of a probe, and how many seconds it takes."""
    jumps: list[tuple[float, float]] = []
    front, model = freezer._front, freezer.model
    freeze = front.freeze

    def measured(*given: Any) -> Any:
        model.train()
        before = loss_in_training(model, model, images, targets)
        began = time.perf_counter()
        division = freeze(*given)
        seconds = time.perf_counter() - began
        after = loss_in_training(lambda x: division.suffix(division.prefix(x)), model, images, targets)
        jumps.append((after - before, seconds))
        return division

    front.freeze = measured  # type: ignore[method-assign]
    return jumps


def run(name: str, settle: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    subject = SUBJECTS[name]
    epochs, samples = options.epochs or subject.epochs, options.samples or subject.samples
    torch.manual_seed(seed)
    model = subject.make()
    optimizer = torch.optim.SGD(model.parameters(), lr=subject.rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    data = open_data("embedded").train.first(samples)
    data.transform = v2.Compose([*subject.random, *subject.shown])
    late = {max(1, round(share * epochs)): cut for share, cut in subject.points.items()}
    with Freezer(
        model, data, batch_size=64, epochs=epochs, policy=late, optimizer=optimizer, seed=seed, settle=settle
    ) as freezer:
        pairs = [(freezer._data.samples.dataset[n]) for n in range(min(512, samples))]
        still = v2.Compose(subject.shown)
        images, labels = torch.stack([still(image) for image, _ in pairs]), torch.tensor([label for _, label in pairs])
        jumps = watched(freezer, images, labels)
        fit(freezer, optimizer, epochs=epochs)
        return {
            "subject": name,
            "settle": settle,
            "seed": seed,
            "accuracy": accuracy_of(freezer.model, subject.shown, options.tests),
            "jumps": [jump for jump, _ in jumps],
            "freeze_seconds": [seconds for _, seconds in jumps],
        }


def table(records: Sequence[dict[str, Any]]) -> str:
    lines = ["| training | settle | accuracy, % | Δ to last | jump of the loss | seconds of a freeze |"]
    lines.append("|---|---|---|---|---|---|")
    last = {(r["subject"], r["seed"]): r["accuracy"] for r in records if r["settle"] == "last"}
    for subject, settle in dict.fromkeys((r["subject"], r["settle"]) for r in records):
        mine = [r for r in records if (r["subject"], r["settle"]) == (subject, settle)]
        deltas = [100 * (r["accuracy"] - last[subject, r["seed"]]) for r in mine]
        jumps = [" ".join(f"{statistics.mean(j):+.3f}" for j in zip(*(r["jumps"] for r in mine), strict=True))]
        seconds = statistics.mean(second for r in mine for second in r["freeze_seconds"])
        deviation = f" ± {statistics.stdev(deltas):.2f}" if len(deltas) > 1 else ""
        lines.append(
            f"| {subject} | {settle} | {100 * statistics.mean(r['accuracy'] for r in mine):.2f} | "
            f"{statistics.mean(deltas):+.2f}{deviation} | {jumps[0]} | {seconds:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", action="append", choices=SUBJECTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="in place of each subject's own")
    parser.add_argument("--samples", type=int, help="in place of each subject's own")
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--smoke", action="store_true", help="a few images and epochs: only to see it run")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/settle.json"))
    options = parser.parse_args()
    if options.smoke:
        options.seeds, options.epochs, options.samples, options.tests = 1, 3, 128, 64
        options.subject = ["scratch"]
    torch.set_num_threads(1)
    records = json.loads(options.out.read_text()) if options.out.exists() else []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for name in options.subject or SUBJECTS:
            for settle in SETTLE:
                if any((r["subject"], r["settle"], r["seed"]) == (name, settle, seed) for r in records):
                    continue
                records.append(run(name, settle, seed, options))
                options.out.write_text(json.dumps(records, indent=1))
                print(f"seed {seed}, {name}, {settle}: {records[-1]['accuracy']:.2%}", flush=True)
    print(table(records))


if __name__ == "__main__":
    main()
