"""What a batch costs by the layout of items: pairs, triples, mappings, dataclasses, a collate of one's own.

Measures: seconds of an epoch behind a freeze, read from the cache, by layout, relative to pairs in the same turn: an
epoch of training the suffix (a step's usual work), and one that only draws batches (where the layout is all there is).
On: random images of 3 x 32 x 32 through a small ResNet of which the first stage is frozen; exact same samples, order,
codec and weights in every layout; one thread.
Repeats: `--turns` epochs of each, all layouts in turn in each; the median ratio, and the quartiles.

    python benchmarks/batches.py --samples 4096 --turns 15
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from hoarfrost import Freezer
from hoarfrost.models import resolve_model
from measuring.record import write_record
from measuring.timing import quartiles

CUT = "layer1"


@dataclass
class Item:
    """A sample as a dataclass."""

    image: Tensor
    label: int


class Laid(Dataset[Any]):
    """The same samples in a layout of items."""

    def __init__(self, images: Tensor, labels: Tensor, layout: Callable[[Tensor, int, int], Any]) -> None:
        self.images, self.labels, self.layout = images, labels.tolist(), layout

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> Any:
        return self.layout(self.images[number], self.labels[number], number)


def items_together(items: list[Item]) -> Item:
    """A batch of dataclasses is one."""
    return Item(torch.stack([item.image for item in items]), torch.tensor([item.label for item in items]))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Layout:
    """How an item is laid out, and where a batch has features and targets."""

    item: Callable[[Tensor, int, int], Any]
    features: Callable[[Any], Any]
    targets: Callable[[Any], Any]
    told: dict[str, Any]


LAYOUTS = {
    "pairs": Layout(lambda x, y, n: (x, y), lambda b: b[0], lambda b: b[1], {}),
    "pairs, own collate": Layout(
        lambda x, y, n: (x, y), lambda b: b[0], lambda b: b[1], {"collate_fn": lambda items: default_collate(items)}
    ),
    "triples": Layout(lambda x, y, n: (x, y, f"image {n}"), lambda b: b[0], lambda b: b[1], {}),
    "mappings": Layout(
        lambda x, y, n: {"x": x, "labels": y, "id": n}, lambda b: b["x"], lambda b: b["labels"], {"input": "x"}
    ),
    "dataclasses": Layout(
        lambda x, y, n: Item(x, y),
        lambda b: b.image,
        lambda b: b.label,
        {"input": "image", "collate_fn": items_together},
    ),
}


class Training:
    """A model frozen up to `CUT`, on samples in one layout."""

    def __init__(self, model: nn.Module, layout: Layout, images: Tensor, labels: Tensor, batch_size: int) -> None:
        self.model, self.layout = copy.deepcopy(model), layout
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-3)
        self.freezer = Freezer(
            self.model,
            Laid(images, labels, layout.item),
            batch_size=batch_size,
            epochs=10_000,
            optimizer=self.optimizer,
            policy={0: CUT},
            mode="cache",
            views=1,
            ladder=8,
            verbose=False,
            **layout.told,
        )

    def epoch(self, number: int, *, trained: bool) -> float:
        """Seconds of one."""
        began = time.perf_counter()
        for batch in self.freezer.batches(number):
            if trained:
                loss = F.cross_entropy(self.freezer(self.layout.features(batch)), self.layout.targets(batch))
                loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad()
        return time.perf_counter() - began


def measure(samples: int, batch_size: int, turns: int) -> dict[str, Any]:
    """Seconds of epochs by layout, `trained` and `drawn`."""
    torch.manual_seed(0)
    images, labels = torch.randn(samples, 3, 32, 32), torch.randint(0, 10, (samples,))
    model = resolve_model("cifar_resnet", channels=3, classes=10)
    seconds: dict[str, Any] = {kind: {name: [] for name in LAYOUTS} for kind in ("trained", "drawn")}
    with ExitStack() as stack:
        trainings = {name: Training(model, layout, images, labels, batch_size) for name, layout in LAYOUTS.items()}
        for training in trainings.values():
            stack.enter_context(training.freezer)
            training.epoch(0, trained=True)
        for turn in range(1, turns + 1):
            for kind in seconds:
                # Whoever comes first in a turn finds other caches of the processor.
                for name in list(trainings)[turn % len(trainings) :] + list(trainings)[: turn % len(trainings)]:
                    seconds[kind][name].append(trainings[name].epoch(turn, trained=kind == "trained"))
    return seconds


def ratios(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Of each layout to pairs in the same turn: median and quartiles."""
    found = {}
    for name, values in seconds.items():
        each = [value / pairs for value, pairs in zip(values, seconds["pairs"], strict=True)]
        found[name] = {**quartiles(each), "seconds": statistics.median(values)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/batches.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {kind: ratios(of) for kind, of in measure(options.samples, options.batch_size, options.turns).items()}
    print("| items | an epoch of training, of pairs | from | to | only drawn, of pairs | from | to | ms a batch |")
    print("|---|---|---|---|---|---|---|---|")
    batches = -(-options.samples // options.batch_size)
    for name in LAYOUTS:
        cells = [f"{found[kind][name][part]:.3f}" for kind in found for part in ("median", "low", "high")]
        print(f"| {name} | {' | '.join(cells)} | {1e3 * found['drawn'][name]['seconds'] / batches:.2f} |")
    write_record(options.out, options, **found)


if __name__ == "__main__":
    main()
