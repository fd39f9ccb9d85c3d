"""Small models, small data and a plain loop, for the tests of whatever feeds a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.data import ImageArray, open_data
from hoarfrost.models import cifar_resnet

NORMALISE = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
PLAIN = v2.Compose(NORMALISE)
RANDOM = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(28, padding=4), *NORMALISE])

_TRAIN = open_data("embedded").train


def images(n: int = 200, transform: Callable[[Any], Any] | None = None) -> ImageArray:
    data = _TRAIN.first(n)
    data.transform = transform
    return data


class CountingImages(ImageArray):
    """Counts how often an image is read."""

    def __init__(self, n: int = 200, transform: Callable[[Any], Any] | None = None) -> None:
        data = images(n, transform)
        super().__init__(data.images, data.targets, data.classes, transform)  # type: ignore[arg-type]
        self.reads = 0

    def __getitem__(self, index: int) -> tuple[Any, int]:
        self.reads += 1
        return super().__getitem__(index)


def resnet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return cifar_resnet(widths=(4, 8, 8))


class InPlace(nn.Module):
    """VGG-like: in-place activations, batch norm, dropout in front of and behind every cut."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, 2, 1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU6(inplace=True),
            nn.Dropout2d(0.1),
            nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 1),
            nn.Hardswish(inplace=True),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(8 * 49, 12), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(12, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


def in_place(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return InPlace()


class GreyViT(VisionTransformer):
    def __init__(self) -> None:
        super().__init__(
            image_size=28,
            patch_size=7,
            num_layers=3,
            num_heads=2,
            hidden_dim=8,
            mlp_dim=16,
            dropout=0.1,
            num_classes=10,
        )
        self.conv_proj = nn.Conv2d(1, 8, 7, 7)


def vit(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = GreyViT()
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at zero, and no gradient would reach the front
    return model


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


@dataclass
class Trace:
    """What a training went through: the losses, the gradients of each step, and the weights it ended with."""

    losses: list[float]
    gradients: list[dict[str, Tensor]]
    weights: dict[str, Tensor]
    history: list[dict[str, Any]]

    @property
    def choices(self) -> list[str]:
        return [record["choice"] for record in self.history if record["event"] == "freeze"]


def train_epoch(freezer: Freezer, optimizer: torch.optim.Optimizer, epoch: int, trace: Trace, start: int = 0) -> None:
    freezer.model.train()
    for inputs, targets in freezer.batches(epoch, start):
        loss = nn.functional.cross_entropy(freezer(inputs), targets)
        loss.backward()
        trace.losses.append(loss.item())
        trace.gradients.append(
            {name: p.grad.clone() for name, p in freezer.model.named_parameters() if p.grad is not None}
        )
        optimizer.step()
        optimizer.zero_grad()
    freezer.end_epoch({"loss": trace.losses[-1]})


def train(
    model: nn.Module,
    data: Any,
    *,
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer] = sgd,
    epochs: int = 4,
    batch_size: int = 50,
    after_epoch: Callable[[Freezer, int], None] | None = None,
    **options: Any,
) -> Trace:
    """A user's own loop, from the same random state each time."""
    optimizer = make_optimizer(model)
    trace = Trace([], [], {}, [])
    options = {"policy": {1: 1}, "ladder": "exact", "mode": "cache", "views": 1, **options}
    with Freezer(model, data, batch_size=batch_size, epochs=epochs, optimizer=optimizer, **options) as freezer:
        torch.manual_seed(7)
        for epoch in range(epochs):
            train_epoch(freezer, optimizer, epoch, trace)
            if after_epoch is not None:
                after_epoch(freezer, epoch)
        trace.history = list(freezer.history)
    trace.weights = {name: value.clone() for name, value in model.state_dict().items()}
    return trace


def assert_same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


def assert_same_run(one: Trace, other: Trace) -> None:
    """Bit for bit: losses, gradients, final weights and buffers."""
    assert one.losses == other.losses
    assert len(one.gradients) == len(other.gradients)
    for mine, theirs in zip(one.gradients, other.gradients, strict=True):
        assert_same_tensors(mine, theirs)
    assert_same_tensors(one.weights, other.weights)
