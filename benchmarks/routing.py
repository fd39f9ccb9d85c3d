"""What it costs that the model itself may be called: `route=True` against `freezer(...)`, and against no Freezer.

Measures: seconds of a training step (forward, loss, backward, the optimizer's step), as a ratio within each turn.
  frozen  `model(features)`, which is routed to the layers behind the cut, to `freezer(features)`.
  whole   `model(images)` in eval behind the freeze, which runs whole, to an equal model that no Freezer has seen.
On: ResNet-18 at 64 px frozen up to its second stage, a ViT of 6 blocks at 32 px frozen up to its third; random weights
and images, one thread.
Repeats: `--turns` of both in turn, the other one first in every second; the median ratio, and the quartiles.

    python benchmarks/routing.py --turns 200
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.models import resnet18
from torchvision.models.vision_transformer import VisionTransformer

from hoarfrost import Freezer
from measuring.timing import quartiles

MODELS: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "resnet18": (lambda: resnet18(num_classes=10), 64, "layer2"),
    "vit": (
        lambda: VisionTransformer(32, 4, 6, 4, 192, 384, num_classes=10),
        32,
        "encoder.layers.encoder_layer_2",
    ),
}


def seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def ratios(one: Callable[[], Any], other: Callable[[], Any], turns: int) -> dict[str, float]:
    """Of `one` to `other` in the same turn."""
    for run in (one, other, one, other):
        run()
    each, of_other = [], []
    for turn in range(turns):
        mine, its = (seconds(one), seconds(other)) if turn % 2 else (seconds(other), seconds(one))[::-1]
        each.append(mine / its)
        of_other.append(its)
    return {**quartiles(each), "ms": 1e3 * statistics.median(of_other)}


def measure(name: str, batch_size: int, turns: int) -> dict[str, dict[str, float]]:
    """Both comparisons on one model."""
    make, size, cut = MODELS[name]
    torch.manual_seed(0)
    model = make().train()
    plain = copy.deepcopy(model).eval()
    images = torch.rand(4 * batch_size, 3, size, size)
    data = TensorDataset(images, torch.randint(0, 10, (len(images),)))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with Freezer(
        model,
        data,
        batch_size=batch_size,
        epochs=2,
        optimizer=optimizer,
        policy={0: cut},
        mode="cache",
        views=1,
        ladder=8,
        route=True,
        verbose=False,
    ) as freezer:
        features, targets = next(iter(freezer.batches(0)))

        def step(call: Callable[[Tensor], Tensor]) -> None:
            F.cross_entropy(call(features), targets).backward()
            optimizer.step()
            optimizer.zero_grad()

        found = {"frozen": ratios(lambda: step(model), lambda: step(freezer), turns)}
        model.eval()
        with torch.no_grad():
            batch = images[:batch_size]
            found["whole"] = ratios(lambda: model(batch), lambda: plain(batch), turns)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--out", type=Path, help="a JSON file with all the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: measure(name, options.batch_size, options.turns) for name in MODELS}
    print("| model | call | ratio | from | to | ms |\n|---|---|---|---|---|---|")
    for name, kinds in found.items():
        for kind, of in kinds.items():
            print(f"| {name} | {kind} | {of['median']:.4f} | {of['low']:.3f} | {of['high']:.3f} | {of['ms']:.1f} |")
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
