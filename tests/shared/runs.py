"""A user's own training loop and the trace that it leaves, to compare runs bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hoarfrost import Freezer


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


def step_losses(
    freezer: Freezer, loss_of: Callable[[Any], Tensor], epochs: range = range(4), seed: int | None = None
) -> list[float]:
    """A user's own loop with the freezer's optimizer: the loss of each step.

    Args:
        loss_of: of a batch.
        seed: of the random state that each epoch begins with, the epoch added; None: it goes on.
    """
    losses = []
    for epoch in epochs:
        if seed is not None:
            torch.manual_seed(seed + epoch)
        for batch in freezer.batches(epoch):
            loss = loss_of(batch)
            loss.backward()
            freezer.optimizer.step()
            freezer.optimizer.zero_grad()
            losses.append(loss.item())
        freezer.end_epoch()
    return losses


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
