"""Training behind the cut that several named layers cross: `cuts=`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hoarfrost import Freezer
from hoarfrost.errors import ArgumentError, InvalidCutError, UnknownCutError
from shared.images import PLAIN, images
from shared.nets import conv_block

N = 150


class Pyramid(nn.Module):
    """Three blocks, and a head that takes what each of them gives."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([conv_block(1, 4), conv_block(4, 4), conv_block(4, 6)])
        self.heads = nn.ModuleList([nn.Linear(4, 10), nn.Linear(4, 10), nn.Linear(6, 10)])

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.zeros(())
        for block, head in zip(self.layers(x), self.heads, strict=True):
            scores = scores + head(block.mean((2, 3)))
        return scores

    def layers(self, x: Tensor) -> list[Tensor]:
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return found


LAYERS = ("blocks.0", "blocks.1", "blocks.2")


def pyramid() -> nn.Module:
    torch.manual_seed(0)
    return Pyramid()


def train(model: nn.Module, **more: object) -> tuple[list[float], Freezer]:
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    freezer = Freezer(
        model, images(N, PLAIN), batch_size=32, epochs=3, optimizer=optimizer, policy={1: "blocks.2"}, **more
    )
    losses = []
    with freezer:
        for epoch in range(3):
            for inputs, targets in freezer.batches(epoch):
                assert not epoch or [tuple(layer.shape[1:2]) for layer in inputs] == [(6,), (4,), (4,)]
                loss = F.cross_entropy(freezer(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            freezer.end_epoch()
    return losses, freezer


def test_cached_and_recomputing_runs_are_equal_bit_for_bit() -> None:
    cached, recomputing = pyramid(), pyramid()
    stored, freezer = train(cached, cuts=LAYERS, mode="cache", ladder="exact", views=1)
    computed, _ = train(recomputing, cuts=LAYERS, mode="recompute")
    assert stored == computed
    assert all(map(torch.equal, cached.state_dict().values(), recomputing.state_dict().values()))
    (record,) = [record for record in freezer.history if record["event"] == "freeze"]
    assert {entry["tensor"] for entry in record["beside"]} == {"blocks.0", "blocks.1"}
    assert record["depth"] == len(freezer.cuts) == 1


def test_one_budget_is_for_all_layers() -> None:
    _, free = train(pyramid(), cuts=LAYERS, mode="cache", ladder=8)
    needed = free.history[-1]["cache_bytes"]
    _, bounded = train(pyramid(), cuts=LAYERS, mode="cache", ladder=8, disk_budget=int(needed * 1.3))
    assert 0 < bounded.history[-1]["cache_bytes"] <= needed * 1.3


def test_a_layer_that_is_not_there_is_refused_in_the_constructor() -> None:
    with pytest.raises(UnknownCutError, match=r"'blocks\.3' is no module of it in Pyramid; near it: blocks"):
        train(pyramid(), cuts=("blocks.0", "blocks.3"))


def test_what_else_crosses_is_named_in_the_constructor() -> None:
    with pytest.raises(InvalidCutError, match=r"needs what 'blocks.1' gives \[4, \d+, \d+\] too"):
        train(pyramid(), cuts=("blocks.0", "blocks.2"))


def test_names_and_a_number_of_tensors_are_refused_together() -> None:
    with pytest.raises(ArgumentError, match="cuts name what crosses, so max_tensors=2 has no say"):
        train(pyramid(), cuts=LAYERS, max_tensors=2)
