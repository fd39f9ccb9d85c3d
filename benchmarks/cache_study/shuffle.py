"""How well the shuffle window mixes, and what that does to accuracy."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from hoarfrost.cache import CacheSpec
from hoarfrost.codecs import Linear, Packed
from hoarfrost.data import open_data
from hoarfrost.feeding.loading import feature_batches
from hoarfrost.samples.order import Order
from hoarfrost.samples.prefix_source import Block

__all__ = ["shuffle"]

CHUNK = 64


class SortedOrder(Order):
    """Chunks of neighbours, as a data set that is sorted by class would give them."""

    def members(self, chunk: int) -> Tensor:
        return torch.arange(chunk * self.chunk_size, chunk * self.chunk_size + self.size(chunk))


@dataclass
class ImageSource:
    """Images that stand for features."""

    order: Order
    images: Tensor
    targets: Tensor

    def kept(self, chunk: int, epoch: int) -> Block | None:
        return None

    def ahead(self, chunk: int, epoch: int) -> bool:
        return False

    def load(self, chunk: int, epoch: int) -> Block:
        ids = self.order.members(chunk)
        return Block(Packed(self.images[ids], None, None, torch.float32, 1), self.targets[ids])

    def recover(self, chunk: int, epoch: int, reason: Exception) -> Block:
        raise reason


def pixels(data: Any, count: int) -> tuple[Tensor, Tensor]:
    """Images [N, 1, 14, 14], sorted by class, and their classes [N]."""
    images = torch.stack([v2.functional.to_dtype(v2.functional.to_image(data[i][0]), torch.float32, scale=True)
                          for i in range(count)])  # fmt: skip
    targets = torch.tensor([int(data[i][1]) for i in range(count)])
    by_class = targets.argsort(stable=True)
    return F.avg_pool2d(images, 2)[by_class], targets[by_class]


def small_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(128, 10),
    )  # fmt: skip


def shuffle(options: argparse.Namespace) -> list[dict[str, Any]]:
    data = open_data("embedded")
    images, targets = pixels(data.train, options.samples)
    seen, wanted = pixels(data.test, min(2_000, len(data.test)))  # type: ignore[arg-type]
    spec = CacheSpec(len(images), CHUNK, (1, 14, 14), torch.float32, 1, False, Linear(8))
    found = []
    print("| chunks | window | pairs of a batch from one chunk | neighbours of one class | accuracy |")
    print("|---|---|---|---|---|")
    for kind, make in (("random", Order), ("sorted", SortedOrder)):
        for window in (1, 4, 16, spec.chunks):
            accuracies, mates, runs = [], [], []
            for seed in range(options.seeds):
                torch.manual_seed(seed)
                order = make(len(images), seed, CHUNK, window)
                source, model = ImageSource(order, images, targets), small_network()
                optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
                chunk_of = torch.empty(len(images), dtype=torch.int64)
                for chunk in range(order.chunks):
                    chunk_of[order.members(chunk)] = chunk
                for number in range(options.epochs):
                    for batch in feature_batches(source, order, spec, number, 32):
                        optimizer.zero_grad()
                        F.cross_entropy(model(batch.features), batch.targets).backward()
                        optimizer.step()
                        chunks, size = chunk_of[batch.sample_ids], len(batch.sample_ids)
                        mates.append(float((chunks[:, None] == chunks).sum() - size) / (size * (size - 1)))
                        runs.append(float((batch.targets[1:] == batch.targets[:-1]).float().mean()))
                with torch.no_grad():
                    accuracies.append(float((model.eval()(seen).argmax(1) == wanted).float().mean()) * 100)
            row = {"chunks": kind, "window": window, "of": spec.chunks, "accuracy": accuracies}
            row |= {"one_chunk": statistics.mean(mates), "one_class": statistics.mean(runs)}
            found.append(row)
            spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
            label = "all" if window == spec.chunks else window
            print(f"| {kind} | {label} | {100 * statistics.mean(mates):.1f} % | {100 * statistics.mean(runs):.1f} % | "
                  f"{statistics.mean(accuracies):.2f} ± {spread:.2f} |", flush=True)  # fmt: skip
    return found
