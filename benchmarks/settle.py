"""What a front is frozen as: its last statistics of batch norms, new ones, averaged weights, or what is told by itself.

Measures: the accuracy at the end on the plain test images and on the same moved as in training, for each way of
`Freezer(..., settle=...)`, and as Δ to "last" of the same seed; the jump at each freeze: the loss of the same training
images just behind it less that just in front of it, all that trains normalising by the batch, what is frozen by its
running statistics; the seconds of the freeze itself, and what it said.
On: the embedded Fashion-MNIST images, with random flips and crops.
- "scratch": cifar_resnet, layer1 and layer2 frozen after 40 and 60 % of the epochs; "scratch, early": after 5 and 10 %.
- "efficientnet, ...": EfficientNet-Lite0 with its ImageNet weights, at 64 pixels, blocks.9 frozen from the start or
  behind so many epochs; "efficientnet, probe": all but the classifier, from the start.
- "resnet, ...": cifar_resnet that has learned five of the classes, on the other five, layer2 frozen as said.
- "vit": a small vision transformer from scratch, half of its blocks frozen at 40 %; it has no batch norm.
SGD with a cosine schedule. One thread.
Repeats: `--seeds` seeds. Runs that `--out` holds are not repeated.

    python benchmarks/settle.py --seeds 3
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.data import ImageArray, open_data
from hoarfrost.models import cifar_resnet, efficientnet_lite0
from hoarfrost.running import Examination, describe_machine, fit
from hoarfrost.settings.keywords import SETTLE


@dataclass(frozen=True)
class Case:
    """A training: its model, the images as they are shown, and where it freezes.

    Attributes:
        points: cuts, by the epochs from which all in front of them is frozen.
        classes: of the images; None: all.
    """

    make: Callable[[], nn.Module]
    shown: Sequence[Any]
    random: Sequence[Any]
    points: Mapping[int, str]
    rate: float
    samples: int
    epochs: int
    classes: Collection[int] | None = None


GREY = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
COLOUR = [v2.ToImage(), v2.Grayscale(3), v2.ToDtype(torch.float32, scale=True), v2.Normalize([127 / 255], [128 / 255])]
LARGE = v2.Resize(64, antialias=True)
MOVED = [v2.RandomHorizontalFlip(), v2.RandomCrop(28, padding=4)]
MOVED_64 = [LARGE, v2.RandomHorizontalFlip(), v2.RandomCrop(64, padding=8)]
FIRST, OTHERS = range(5), range(5, 10)


class GreyViT(VisionTransformer):
    def __init__(self) -> None:
        super().__init__(28, 7, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10)
        self.conv_proj = nn.Conv2d(1, 64, 7, 7)


def images(part: str, count: int, classes: Collection[int] | None = None) -> ImageArray:
    """The first so many of the embedded training or test images, of these classes alone."""
    data = open_data("embedded")
    whole = data.train if part == "train" else data.test
    assert isinstance(whole, ImageArray)
    mine = [n for n, label in enumerate(whole.targets) if classes is None or label in classes][:count]
    return ImageArray(whole.images[mine], np.asarray(whole.targets)[mine], whole.classes)


def sgd(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4, nesterov=True)


@cache
def learned(samples: int = 3000, epochs: int = 8) -> dict[str, Tensor]:
    """A cifar_resnet's weights once it has learned the first five classes."""
    torch.manual_seed(77)
    model = cifar_resnet()
    optimizer, data = sgd(model, 0.1), images("train", samples, FIRST)
    with Freezer(
        *(model, data), batch_size=64, epochs=epochs, policy="none", optimizer=optimizer, seed=77, verbose=False,
        transform=v2.Compose([*MOVED, *GREY]),
    ) as freezer:  # fmt: skip
        fit(freezer, optimizer, epochs=epochs)
    return {name: value for name, value in model.state_dict().items() if not name.startswith("fc.")}


def taught_resnet() -> nn.Module:
    """As `learned`, with a classifier that was never trained."""
    model = cifar_resnet()
    model.load_state_dict(learned(), strict=False)
    return model


SCRATCH = Case(cifar_resnet, GREY, MOVED, {8: "layer1", 12: "layer2"}, 0.1, 3000, 20)
EFFICIENTNET = Case(lambda: efficientnet_lite0(10), COLOUR, MOVED_64, {0: "blocks.9"}, 0.02, 1000, 6)
RESNET = Case(taught_resnet, GREY, MOVED, {0: "layer2"}, 0.02, 1000, 8, OTHERS)
CASES = {
    "efficientnet, from the start": EFFICIENTNET,
    "efficientnet, after 1 epoch": replace(EFFICIENTNET, points={1: "blocks.9"}),
    "efficientnet, after 2 epochs": replace(EFFICIENTNET, points={2: "blocks.9"}),
    "efficientnet, after 4 epochs": replace(EFFICIENTNET, points={4: "blocks.9"}),
    "efficientnet, probe": replace(EFFICIENTNET, points={0: "top"}),
    "efficientnet, blocks.4 from the start, blocks.9 after 2": replace(
        EFFICIENTNET, points={0: "blocks.4", 2: "blocks.9"}
    ),
    "scratch": SCRATCH,
    "scratch, early": replace(SCRATCH, points={1: "layer1", 2: "layer2"}),
    "resnet, from the start": RESNET,
    "resnet, after 1 epoch": replace(RESNET, points={1: "layer2"}),
    "resnet, after 4 epochs": replace(RESNET, points={4: "layer2"}),
    "vit": replace(SCRATCH, make=GreyViT, points={4: "encoder.layers.encoder_layer_1"}, rate=0.02, epochs=10),
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
    case = CASES[name]
    epochs, samples = options.epochs or case.epochs, options.samples or case.samples
    torch.manual_seed(seed)
    model = case.make()
    torch.manual_seed(seed)
    optimizer, data = sgd(model, case.rate), images("train", samples, case.classes)
    still, moved = v2.Compose([LARGE] * (LARGE in case.random) + [*case.shown]), v2.Compose([*case.random, *case.shown])
    told: dict[str, Any] = {"batch_size": 64, "epochs": epochs, "policy": dict(case.points), "seed": seed}
    with Freezer(
        *(model, data), transform=moved, optimizer=optimizer, settle=settle, verbose=False, **told
    ) as freezer:  # fmt: skip
        pairs = [data[n] for n in range(min(512, samples))]
        probe = torch.stack([still(image) for image, _ in pairs]), torch.tensor([label for _, label in pairs])
        jumps = watched(freezer, *probe)
        fit(freezer, optimizer, epochs=epochs)
        tests = images("test", options.tests, case.classes)
        plain, augmented = (Examination(tests, shown)(freezer.model)["accuracy"] for shown in (still, moved))
        freezes = [record for record in freezer.history if record["event"] == "freeze"]
        return {
            "case": name,
            "settle": settle,
            "seed": seed,
            "epochs": epochs,
            "samples": samples,
            "tests": len(tests),
            "accuracy": plain,
            "augmented": augmented,
            "jumps": [jump for jump, _ in jumps],
            "freeze_seconds": [seconds for _, seconds in jumps],
            "settled": [record.get("settled") for record in freezes],
        }


def table(records: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| training | settle | plain, % | augmented, % | Δ to last, plain / augmented | jump of the loss | chosen |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    last = {(r["case"], r["seed"]): r for r in records if r["settle"] == "last"}
    for case, settle in dict.fromkeys((r["case"], r["settle"]) for r in records):
        mine = [r for r in records if (r["case"], r["settle"]) == (case, settle)]
        cells = [f"{100 * statistics.mean(r[kind] for r in mine):.2f}" for kind in ("accuracy", "augmented")]
        paired = [(r, last[case, r["seed"]]) for r in mine if (case, r["seed"]) in last]
        deltas = [[100 * (r[kind] - other[kind]) for r, other in paired] for kind in ("accuracy", "augmented")]
        jumps = " ".join(f"{statistics.mean(j):+.3f}" for j in zip(*(r["jumps"] for r in mine), strict=True))
        told = " / ".join(map(spread, deltas)) if settle != "last" and paired else ""
        lines.append(f"| {case} | {settle} | {' | '.join(cells)} | {told} | {jumps} | {_chosen(mine)} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.2f}{deviation}"


def _chosen(records: Sequence[dict[str, Any]]) -> str:
    """What the freezes were settled by, freeze by freeze, over the seeds."""
    by_freeze = zip(*(r["settled"] for r in records), strict=True)
    return "; ".join(", ".join(sorted({s["way"] for s in freeze if s})) for freeze in by_freeze)


def sizes(name: str, options: argparse.Namespace) -> dict[str, int]:
    """How much a run trains and tests."""
    case = CASES[name]
    tests = len(images("test", options.tests, case.classes))
    return {"epochs": options.epochs or case.epochs, "samples": options.samples or case.samples, "tests": tests}


def over_seeds(
    doc: str | None,
    kind: str,
    ways: Collection[str],
    run: Callable[[str, str, int, argparse.Namespace], dict[str, Any]],
    *,
    out: str,
    cases: Collection[str] = tuple(CASES),
    smoke: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """The records of each way in each case for each seed: those that `--out` holds, and those that it lacks.

    Args:
        kind: what a way is called, in options and records.
        run: one training, of a case, in a way, from a seed.
        out: the file's name, unless `--out` says another.
        cases: unless others are named.
        smoke: ways of a smoke run; None: all.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument(f"--{kind}", action="append", choices=ways, dest="ways")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="in place of each case's own")
    parser.add_argument("--samples", type=int, help="in place of each case's own")
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--smoke", action="store_true", help="a few images and epochs: only to see it run")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks") / out)
    options = parser.parse_args()
    if options.smoke:
        options.seeds, options.epochs, options.samples, options.tests = 1, 3, 128, 64
        options.case, options.ways = ["scratch, early"], smoke or options.ways
    torch.set_num_threads(1)
    told = json.loads(options.out.read_text()) if options.out.exists() else {"machine": describe_machine(), "runs": []}
    records: list[dict[str, Any]] = told["runs"]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.case or cases:
        asked = sizes(name, options)
        for there in ({key: r[key] for key in asked} for r in records if r["case"] == name):
            if there != asked:
                parser.error(
                    f"{options.out} holds {name!r} at {there}, not at {asked}: say these sizes, or another --out"
                )
    for seed in range(options.seeds):
        for name in options.case or cases:
            for way in options.ways or ways:
                if any((r["case"], r[kind], r["seed"]) == (name, way, seed) for r in records):
                    continue
                records.append(run(name, way, seed, options))
                options.out.write_text(json.dumps(told, indent=1) + "\n")
                print(f"seed {seed}, {name}, {way}: {records[-1]['accuracy']:.2%}", flush=True)
    return records


def main() -> None:
    print(table(over_seeds(__doc__, "settle", SETTLE, run, out="settle.json")))


if __name__ == "__main__":
    main()
