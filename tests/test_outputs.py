"""Models that give anything that holds a tensor are frozen, stored and trained as those that give one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from hoarfrost import Freezer
from hoarfrost.errors import ArgumentError

X, Y = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3


@dataclasses.dataclass
class Scores:
    note: str
    values: Tensor
    extra: Any = None


class Named(NamedTuple):
    nothing: None
    values: Tensor


def base_model_output(values: Tensor) -> Any:
    outputs = pytest.importorskip("transformers.modeling_outputs")
    return outputs.BaseModelOutput(last_hidden_state=values)


WAYS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "dataclass": (lambda values: Scores("a word", values), "classes"),
    "named tuple": (lambda values: Named(None, values), "classes"),
    "dict": (lambda values: {"nothing": None, "word": "a word", "number": 3, "values": values}, "classes"),
    "nested": (lambda values: {"scores": {"topic": values, "mood": values[:, :1]}}, "classes"),
    "list": (lambda values: ["a word", values], "classes"),
    "loss": (lambda values: values.square().mean(), "loss"),
    "loss and scores": (lambda values: (values.square().mean(), values), "classes"),
    "loss in a named tuple": (lambda values: Named(None, values.square().mean()), "loss"),
    "BaseModelOutput": (base_model_output, "classes"),
}


class Net(nn.Module):
    def __init__(self, gives: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        self.last, self.gives = nn.Linear(8, 3), gives

    def forward(self, x: Tensor) -> Any:
        return self.gives(self.last(self.front(x)))


def tensor_in(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    held = vars(output) if dataclasses.is_dataclass(output) else output
    held = held.values() if isinstance(held, dict) else held if isinstance(held, (tuple, list)) else ()
    return next((found for item in held if (found := tensor_in(item)) is not None), None)


def trained(gives: Callable[[Tensor], Any], policy: Any, **options: Any) -> tuple[list[float], list[Tensor], Any]:
    """Losses, weights, and what harm was measured on."""
    torch.manual_seed(0)
    model, losses = Net(gives), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    told = {"policy": policy, "optimizer": optimizer, "verbose": False, **options}
    with Freezer(model, TensorDataset(X, Y), batch_size=16, epochs=3, **told) as freezer:
        for epoch in range(3):
            for inputs, _ in freezer.batches(epoch):
                found = tensor_in(freezer(inputs))
                assert found is not None
                loss = found.square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            freezer.end_epoch()
        harms = {record["harm"] for record in freezer.history if record["event"] == "freeze"}
    return losses, list(model.parameters()), harms


@pytest.mark.parametrize("way", WAYS)
def test_whatever_holds_the_output_the_law_holds(way: str) -> None:
    gives, _ = WAYS[way]
    cached, recomputed = (trained(gives, {1: "front"}, mode=mode, ladder="exact") for mode in ("cache", "recompute"))
    assert cached[0] == recomputed[0]
    assert all(map(torch.equal, cached[1], recomputed[1]))


@pytest.mark.parametrize("way", WAYS)
def test_harm_is_measured_on_it_with_every_default(way: str) -> None:
    gives, harm = WAYS[way]
    losses, _, harms = trained(gives, "schedule")
    assert harms == {harm}
    assert all(map(torch.isfinite, torch.tensor(losses)))


def test_an_output_of_losses_that_are_not_named_is_asked_about() -> None:
    with pytest.raises(
        ArgumentError, match=r"gives tuple, in which there is no tensor with a row for each sample.*criterion="
    ):
        trained(lambda values: (values.square().mean(), values.abs().mean()), "schedule")
