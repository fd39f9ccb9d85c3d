"""`freezer.loader`: a DataLoader's manners, and the epochs of `batches`."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hoarfrost import Freezer
from hoarfrost.errors import ArgumentError, CheckpointError
from shared.grids import grid
from shared.images import RANDOM, images
from shared.nets import resnet
from shared.runs import sgd

EPOCHS = 4


def freezer_of(model: Any, **options: Any) -> Freezer:
    told: dict[str, Any] = {"epochs": EPOCHS, "policy": {1: "layer1", 3: "layer2"}, "mode": "cache", "ladder": "exact"}
    return Freezer(model, images(60, RANDOM), batch_size=16, optimizer=sgd(model), **{**told, **options})


def step(freezer: Freezer, inputs: Tensor, targets: Tensor) -> None:
    optimizer: Any = freezer.optimizer
    loss = F.cross_entropy(freezer(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@functools.cache
def by_batches() -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    model = resnet()
    with freezer_of(model) as freezer:
        for epoch in range(EPOCHS):
            for inputs, targets in freezer.batches(epoch):
                step(freezer, inputs, targets)
            freezer.end_epoch()
        return model.state_dict(), freezer.history


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


@pytest.mark.parametrize("metrics", [False, True])
def test_iterations_are_epochs(metrics: bool) -> None:
    """To the bit what `batches` and `end_epoch` give; metrics are taken where the loop has some."""
    weights, history = by_batches()
    model = resnet()
    with freezer_of(model) as freezer:
        lengths = []
        for _ in range(EPOCHS):
            lengths.append(len(freezer.loader))
            for inputs, targets in freezer.loader:
                step(freezer, inputs, targets)
            if metrics:
                freezer.end_epoch({"val_loss": 1.0})
        assert same(model.state_dict(), weights)
        assert lengths == [4] * EPOCHS
    told = [(r["event"], r["epoch"], r.get("depth")) for r in freezer.history]
    wanted = [(r["event"], r["epoch"], r.get("depth")) for r in history]
    assert told == wanted
    assert all(("val_loss" in r) == metrics for r in freezer.history if r["event"] == "epoch")


def test_it_has_a_loaders_manners() -> None:
    with freezer_of(resnet()) as freezer:
        loader = freezer.loader
        assert loader.dataset is freezer._data.samples.dataset
        assert (loader.batch_size, loader.drop_last, len(loader)) == (16, False, 4)
        iterator = iter(loader)
        assert not freezer.history
        assert len(list(iterator)) == 4
        assert len(list(loader)) == 4
        assert freezer.depth > 0


def test_an_epoch_that_was_broken_off_is_over() -> None:
    with freezer_of(resnet()) as freezer:
        for _ in range(3):
            next(iter(freezer.loader))
        assert [r["epoch"] for r in freezer.history if r["event"] == "epoch"] == [0, 1]


def test_set_epoch_says_which_one_comes() -> None:
    def first(freezer: Freezer) -> Tensor:
        return next(iter(freezer.loader))[1]

    with freezer_of(resnet(), policy="none") as freezer:
        epochs = []
        for epoch in range(3):
            freezer.loader.set_epoch(epoch)
            epochs.append(first(freezer))
        freezer.loader.set_epoch(1)
        assert torch.equal(first(freezer), epochs[1])
        assert not torch.equal(epochs[0], epochs[1])
        with pytest.raises(ArgumentError, match="set_epoch: a whole number from 0 on is needed, not -1"):
            freezer.loader.set_epoch(-1)


STOPS = [(0, 2), (1, 1), (1, 4), (2, 3)]


@functools.cache
def states() -> dict[tuple[int, int], Any]:
    """Behind these batches of one run: of the model, the freezer, its loader, the optimizer."""
    kept = {}
    model = resnet()
    with freezer_of(model) as freezer:
        for epoch in range(EPOCHS):
            for number, (inputs, targets) in enumerate(freezer.loader, 1):
                step(freezer, inputs, targets)
                if (epoch, number) in STOPS:
                    optimizer: Any = freezer.optimizer
                    holders = (model, freezer, freezer.loader, optimizer)
                    kept[epoch, number] = copy.deepcopy([holder.state_dict() for holder in holders])
    return kept


@grid(at=STOPS, own_state=[False, True])
def test_it_goes_on_where_it_was(at: tuple[int, int], own_state: bool) -> None:
    weights, _ = by_batches()
    kept = copy.deepcopy(states()[at])
    again = resnet(seed=1)
    with freezer_of(again) as freezer:
        again.load_state_dict(kept[0])
        freezer.load_state_dict(kept[1])
        if own_state:
            freezer.loader.load_state_dict(kept[2])
        freezer.optimizer.load_state_dict(kept[3])  # type: ignore[union-attr]
        for _ in range(at[0] + (at[1] == 4), EPOCHS):
            for inputs, targets in freezer.loader:
                step(freezer, inputs, targets)
        assert [r["epoch"] for r in freezer.history if r["event"] == "epoch"] == [0, 1, 2]
    assert same(again.state_dict(), weights)


def test_what_is_no_state_is_refused() -> None:
    with (
        freezer_of(resnet()) as freezer,
        pytest.raises(CheckpointError, match="a loader's state holds an epoch and a step"),
    ):
        freezer.loader.load_state_dict({"epoch": "1"})
