"""What was decided is in the state before anything follows from it, and a resumed run decides none of it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hoarfrost import Freezer, TrainState
from hoarfrost.cache import list_caches
from shared.freezers import N, epoch_of, freezer_of, record, same
from shared.grids import grid
from shared.images import RANDOM, images
from shared.nets import resnet
from shared.runs import sgd

TWO = {1: "layer1", 2: "layer2"}


def caches(folder: Path) -> set[str]:
    return {info.key for info in list_caches(folder)} if folder.exists() else set()


def state_of(freezer: Freezer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(freezer.state_dict()))
    return found


def through(freezer: Freezer, epochs: range, *, save: bool = True) -> dict[str, Any]:
    """Train on nothing; the last state."""
    state: dict[str, Any] = {}
    for epoch in epochs:
        epoch_of(freezer, epoch)
        freezer.end_epoch()
        if save:
            state = state_of(freezer)
    return state


def resumed(state: dict[str, Any], model: nn.Module, **options: Any) -> Freezer:
    again = resnet(5)
    again.load_state_dict(model.state_dict())
    freezer = freezer_of(again, **options)
    freezer.load_state_dict(state)
    return freezer


def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_: Any, **__: Any) -> Any:
        pytest.fail("it was measured again")

    monkeypatch.setattr("hoarfrost.storing.storer.calibrate", measured)


@grid(mode=["recompute", "cache"], build_from=["images", "features"])
def test_a_state_between_the_decision_and_the_build_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, build_from: str
) -> None:
    options: dict[str, Any] = {"policy": TWO, "mode": mode, "build_from": build_from, "views": 1, "ladder": 8}
    options |= {"tolerance": 10.0}
    model = resnet()
    with freezer_of(model, cache_dir=tmp_path / "one", **options) as freezer:
        through(freezer, range(2))
        there = caches(tmp_path / "one")
        state = state_of(freezer)
        assert caches(tmp_path / "one") == there, "nothing is built or removed before the next batch"
        assert (freezer.source, freezer.depth) == (mode, 5)
        wanted = [epoch_of(freezer, epoch) for epoch in (2, 3)]
        told = record(freezer)
    if mode == "cache":
        assert (told["built_from"] is not None) == (build_from == "features")
    # Another process that was killed before it built anything: only the earlier cache is there.
    with freezer_of(cache_dir=tmp_path / "two", **options) as other:
        through(other, range(2))
    no_measuring(monkeypatch)
    with resumed(state, model, cache_dir=tmp_path / "two", **options) as again:
        assert again.source == mode
        got = [epoch_of(again, epoch) for epoch in (2, 3)]
        assert all(map(same, wanted, got))
        times = {"build_seconds"}
        assert {k: v for k, v in record(again).items() if k not in times} == {
            k: v for k, v in told.items() if k not in times
        }


def test_what_vanishes_is_built_again_as_it_was_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = resnet()
    options: dict[str, Any] = {"policy": {1: "layer1"}, "ladder": "auto", "views": 2, "data": images(N, RANDOM)}
    with freezer_of(model, cache_dir=tmp_path / "one", **options) as freezer:
        through(freezer, range(2))
        state, wanted = state_of(freezer), epoch_of(freezer, 2)
    no_measuring(monkeypatch)
    with resumed(state, model, cache_dir=tmp_path / "two", **options) as again:
        assert same(wanted, epoch_of(again, 2))


def test_the_earlier_cache_stays_until_a_state_no_longer_needs_it(tmp_path: Path) -> None:
    with freezer_of(policy=TWO, cache_dir=tmp_path, epochs=9) as freezer:
        through(freezer, range(1))
        next(iter(freezer.batches(1)))
        first = caches(tmp_path)
        state_of(freezer)
        freezer.end_epoch()
        epoch_of(freezer, 2)
        both = caches(tmp_path)
        assert first < both, "the last state that was saved goes on with the first one"
        freezer.end_epoch()
        epoch_of(freezer, 3)
        assert caches(tmp_path) == both
        state_of(freezer)
        assert caches(tmp_path) == both, "whoever saves this state has not written it yet"
        epoch_of(freezer, 4)
        assert caches(tmp_path) == both - first


def test_where_nobody_saves_states_it_goes_as_soon_as_the_next_one_stands(tmp_path: Path) -> None:
    with freezer_of(policy=TWO, cache_dir=tmp_path) as freezer:
        through(freezer, range(2), save=False)
        first = caches(tmp_path)
        epoch_of(freezer, 2)
        assert len(caches(tmp_path)) == 1
        assert caches(tmp_path).isdisjoint(first)


@pytest.mark.parametrize("save", [True, False], ids=["saved", "never saved"])
def test_a_freezer_that_is_closed_leaves_what_a_state_goes_on_with(tmp_path: Path, save: bool) -> None:
    with freezer_of(policy=TWO, cache_dir=tmp_path) as freezer:
        through(freezer, range(1))
        next(iter(freezer.batches(1)))
        first = caches(tmp_path)
        if save:
            state_of(freezer)
        freezer.end_epoch()
        next(iter(freezer.batches(2)))
    assert (first < caches(tmp_path)) == save


def test_behind_the_last_epoch_no_state_needs_it(tmp_path: Path) -> None:
    with freezer_of(policy={0: "layer1", 2: "layer2"}, cache_dir=tmp_path, epochs=3) as freezer:
        through(freezer, range(1))
        next(iter(freezer.batches(1)))
        state_of(freezer)
        freezer.end_epoch()
        epoch_of(freezer, 2)
        assert len(caches(tmp_path)) == 2
        freezer.end_epoch()
    assert len(caches(tmp_path)) == 1


def test_the_disk_budget_comes_first(tmp_path: Path) -> None:
    with freezer_of(policy=TWO, cache_dir=tmp_path / "probe", views=1) as freezer:
        through(freezer, range(1))
        epoch_of(freezer, 1)
        budget = int(1.05 * freezer._feeder.nbytes)
    with freezer_of(policy=TWO, cache_dir=tmp_path / "kept", views=1, disk_budget=budget) as freezer:
        through(freezer, range(1))
        next(iter(freezer.batches(1)))
        state_of(freezer)
        freezer.end_epoch()
        next(iter(freezer.batches(2)))
        assert len(caches(tmp_path / "kept")) == 1


class Asked:
    """Remembers nothing that a state would hold: what it is asked, it is asked for good."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def __call__(self, state: TrainState, /) -> int:
        self.epochs.append(state.epoch)
        return 0


def test_a_policy_is_not_asked_before_the_state_is_known() -> None:
    first, second = Asked(), Asked()
    with freezer_of(policy=first) as freezer:
        assert first.epochs == []
        state = through(freezer, range(2))
    assert first.epochs == [0, 1, 2]
    with freezer_of(policy=second) as freezer:
        freezer.load_state_dict(state)
        epoch_of(freezer, 2)
        assert second.epochs == []
        freezer.end_epoch()
    assert second.epochs == [3]


@pytest.mark.parametrize("depth", [0, 3], ids=["whole", "frozen"])
def test_counting_flops_leaves_nothing_behind(depth: int) -> None:
    model, heard = resnet(), []
    optimizer = sgd(model)

    def policy(state: TrainState) -> int:
        return depth

    policy.gradient_epochs = lambda epochs: 4  # type: ignore[attr-defined]
    with freezer_of(model, policy=policy, optimizer=optimizer) as freezer:
        for inputs, targets in freezer.batches(0):
            nn.functional.cross_entropy(freezer(inputs), targets).backward()
        last = list(model.parameters())[-1]
        last.register_hook(lambda gradient: heard.append("hook"))
        last.register_post_accumulate_grad_hook(lambda parameter: heard.append("accumulated"))
        gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        norms, random = freezer._asking.observer.gradient_norms(), torch.get_rng_state()
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        assert freezer.step_flops() > 0
        assert freezer._asking.observer.gradient_norms() == norms
        assert heard == []
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            assert (parameter.grad is None) == (gradient is None)
            assert gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]
        assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
        assert torch.equal(random, torch.get_rng_state())
