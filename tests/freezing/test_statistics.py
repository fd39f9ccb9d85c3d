"""What a front is frozen as: statistics estimated anew, averaged weights."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from hoarfrost import Freezer, find_cut, find_cuts
from hoarfrost.cuts import Prefix
from hoarfrost.cuts import divide as divide_at
from hoarfrost.errors import ArgumentError
from hoarfrost.freezing.statistics import estimate_statistics
from shared.grids import grid
from shared.images import PLAIN, RANDOM, batches, images
from shared.nets import in_place, resnet, vit
from shared.runs import Trace, assert_same_run, sgd, train, train_epoch


def divide(model: nn.Module, label: str) -> Prefix:
    example = batches(1)[0]
    return divide_at(model, find_cut(find_cuts(model, example), label), example)[0]


def moved(model: nn.Module) -> nn.Module:
    """As it stands after some training: running statistics that fit older weights."""
    model.train()
    with torch.no_grad():
        for batch in batches(2, 16):
            model(3 * batch + 1)
    return model


def statistics_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.named_buffers()}


def test_statistics_are_those_of_torch() -> None:
    model = moved(resnet())
    other = copy.deepcopy(model)
    prefix = divide(model, "layer2")
    assert estimate_statistics(prefix, batches()) == 3
    update_bn(batches(), other)
    expected = statistics_of(other)
    for name in prefix.buffer_names:
        torch.testing.assert_close(model.get_buffer(name), expected[name], msg=name)


def test_only_the_front_is_estimated_and_its_flags_stay() -> None:
    model = moved(in_place())
    prefix = divide(model, "features.5")
    prefix.train()
    before, random = statistics_of(model), torch.get_rng_state()
    flags = [module.training for module in prefix.modules()]
    estimate_statistics(prefix, batches())
    changed = {name for name, value in statistics_of(model).items() if not torch.equal(value, before[name])}
    assert changed == set(prefix.buffer_names)
    assert [module.training for module in prefix.modules()] == flags
    assert torch.equal(torch.get_rng_state(), random)  # dropout drew nothing


def test_what_is_frozen_already_stays() -> None:
    model = moved(resnet())
    first = divide(model, "layer1")
    second = divide(model, "layer2")
    before = statistics_of(model)
    estimate_statistics(second, batches(), known=first.module_names)
    after = statistics_of(model)
    assert all(torch.equal(after[name], before[name]) for name in first.buffer_names)
    assert not any(torch.equal(after[n], before[n]) for n in set(second.buffer_names) - set(first.buffer_names))


def test_without_batch_norms_no_image_is_asked_for() -> None:
    prefix = divide(vit(), "encoder.layers.encoder_layer_0")

    def none() -> Any:
        raise AssertionError("an image was asked for")
        yield

    assert estimate_statistics(prefix, none()) == 0


def test_a_momentum_is_given_back_though_a_batch_fails() -> None:
    model = moved(resnet())
    prefix = divide(model, "layer1")
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with pytest.raises(RuntimeError):
        estimate_statistics(prefix, [torch.zeros(2, 3, 28, 28)])
    assert {norm.momentum for norm in norms} == {0.1}


SETTLED = ["statistics", "average"]


def cut_of(freezer: Freezer) -> str:
    assert freezer.cut is not None
    return freezer.cut.label


@pytest.mark.parametrize("settle", SETTLED)
def test_a_freeze_settles_the_front(settle: str) -> None:
    seen: dict[str, Any] = {}

    def look(freezer: Freezer, epoch: int) -> None:
        if freezer.depth and not seen:
            seen.update({name: value.clone() for name, value in freezer.model.state_dict().items()})

    plain = train(resnet(), images(150, PLAIN), policy={1: "layer1"}, epochs=1)
    assert plain.choices == []
    train(resnet(), images(150, PLAIN), policy={1: "layer1"}, epochs=2, settle=settle, after_epoch=look)
    front = divide(resnet(), "layer1")
    differ = {name for name in seen if not torch.equal(seen[name], plain.weights[name])}
    assert {name for name in front.buffer_names if "running" in name} <= differ
    assert (set(front.parameter_names) & differ == set(front.parameter_names)) == (settle == "average")


@grid(make={"resnet": resnet, "in_place": in_place, "vit": vit}, settle=SETTLED)
def test_a_cached_run_is_the_recomputing_run(make: Any, settle: str) -> None:
    labels = [cut.label for cut in find_cuts(make(), batches(1)[0]) if cut.recommended]
    runs = [
        train(make(), images(150, PLAIN), policy={1: labels[0], 2: labels[1]}, settle=settle, mode=mode, epochs=3)
        for mode in ("cache", "recompute")
    ]
    assert_same_run(*runs)


RESUMED: dict[str, Any] = {
    "batch_size": 50, "epochs": 4, "policy": {1: "layer1", 3: "layer2"},
    "ladder": "exact", "mode": "cache", "views": 1, "transform": RANDOM,
}  # fmt: skip


@cache
def uninterrupted(settle: str) -> Trace:
    """One run for all epochs before which another is broken off."""
    return train(resnet(), images(150), settle=settle, **RESUMED)


@grid(interrupted=[1, 2, 3], settle=SETTLED)
def test_a_run_goes_on_from_its_state_bit_for_bit(tmp_path: Any, settle: str, interrupted: int) -> None:
    options, whole = {**RESUMED, "settle": settle}, uninterrupted(settle)

    model = resnet()
    optimizer = sgd(model)
    before = Trace([], [], {}, [])
    with Freezer(model, images(150), optimizer=optimizer, cache_dir=tmp_path, **options) as freezer:
        torch.manual_seed(7)
        for epoch in range(interrupted):
            train_epoch(freezer, optimizer, epoch, before)
        kept = copy.deepcopy((freezer.state_dict(), model.state_dict(), optimizer.state_dict(), torch.get_rng_state()))

    model = resnet(seed=1)
    optimizer = sgd(model)
    model.load_state_dict(kept[1])
    with Freezer(model, images(150), optimizer=optimizer, cache_dir=tmp_path, **options) as freezer:
        freezer.load_state_dict(kept[0])
        optimizer.load_state_dict(kept[2])
        torch.set_rng_state(kept[3])
        for epoch in range(interrupted, 4):
            train_epoch(freezer, optimizer, epoch, before)
    before.weights = dict(model.state_dict())
    assert_same_run(before, whole)


def test_another_way_is_refused() -> None:
    with pytest.raises(
        ArgumentError, match="settle must be one of 'auto', 'last', 'statistics', 'average', not 'mean'"
    ):
        Freezer(resnet(), images(64, PLAIN), batch_size=32, settle="mean")


class Standing(nn.Module):
    """A loop's way of keeping some statistics: its own `train`, which leaves them in eval."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out

    def train(self, mode: bool = True) -> Standing:
        super().train(mode)
        self.model.get_submodule("stem").eval()
        return self


@pytest.mark.parametrize("evaluating", [False, True], ids=["in train", "in eval"])
def test_statistics_that_the_loop_keeps_are_kept(evaluating: bool) -> None:
    """Whichever way the loop left the model when it ended the epoch."""
    model = Standing(resnet())
    optimizer = sgd(model)
    with Freezer(
        model, images(150, PLAIN), batch_size=50, epochs=2, optimizer=optimizer, policy={1: "model.layer1"},
        settle="statistics",
    ) as freezer:  # fmt: skip
        model.train()
        for inputs, targets in freezer.batches(0):
            nn.functional.cross_entropy(freezer(inputs), targets).backward()
            optimizer.step()
        before = statistics_of(model)
        model.train(not evaluating)
        freezer.end_epoch()
    changed = {name for name, value in statistics_of(model).items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("model.layer1") for name in changed)
