"""Policies that are asked within an epoch: what freezes there, what is shown behind it, and going on from there."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from hoarfrost import Freezer, TrainState
from hoarfrost.errors import PolicyError
from shared.distributed_runs import Numbered
from shared.freezers import end_epoch
from shared.grids import grid
from shared.images import PLAIN, RANDOM, images
from shared.nets import in_place
from shared.runs import Trace, assert_same_run, sgd

EPOCHS, BATCH, N = 4, 25, 150
STEPS = N // BATCH


class At:
    """A depth from each of these steps of the training on."""

    def __init__(self, depths: dict[int, int], every_steps: Any = 2) -> None:
        self.depths, self.every_steps, self.thaws = depths, every_steps, True
        self.asked: list[tuple[int, int]] = []

    def __call__(self, state: TrainState) -> int:
        self.asked.append((state.epoch, state.within))
        assert state.step == state.epoch * STEPS + state.within
        return max((step, depth) for step, depth in {0: 0, **self.depths}.items() if step <= state.step)[1]


def start(policy: Any, **options: Any) -> tuple[Freezer, torch.optim.Optimizer]:
    torch.manual_seed(3)
    model, data = options.pop("model", None) or in_place(), options.pop("data", None) or images(N)
    optimizer = sgd(model)
    given = {"batch_size": BATCH, "epochs": EPOCHS, "mode": "cache", "ladder": 8, "views": 2, **options}
    given.setdefault("transform", RANDOM)
    return Freezer(model, data, policy=policy, optimizer=optimizer, **given), optimizer


def steps(
    freezer: Freezer, optimizer: torch.optim.Optimizer, trace: Trace, epoch: int, begin: int = 0, end: int = STEPS
) -> None:
    freezer.model.train()
    for step, (inputs, targets) in enumerate(freezer.batches(epoch, begin), begin):
        loss = nn.functional.cross_entropy(freezer(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trace.losses.append(loss.item())
        if step + 1 == end < STEPS:
            return
    freezer.end_epoch({"loss": trace.losses[-1]})


def run(policy: Any, **options: Any) -> tuple[Trace, Freezer]:
    trace = Trace([], [], {}, [])
    freezer, optimizer = start(policy, **options)
    with freezer:
        for epoch in range(EPOCHS):
            steps(freezer, optimizer, trace, epoch)
    trace.weights = {name: value.clone() for name, value in freezer.model.state_dict().items()}
    trace.history = freezer.history
    return trace, freezer


def shown(freezer: Freezer, epoch: int, watch: Callable[[int, Any], None]) -> list[Tensor]:
    targets = []
    for step, (inputs, target) in enumerate(freezer.batches(epoch)):
        watch(step, inputs)
        targets.append(target)
    return targets


@pytest.mark.parametrize("settle", ["last", "statistics"])
@pytest.mark.parametrize("mix", [None, v2.MixUp(num_classes=10)], ids=["plain", "mixed"])
def test_behind_a_freeze_each_sample_still_comes_once_as_the_frozen_layers_show_it(mix: Any, settle: str) -> None:
    plain, _ = start("none", mix=mix)
    with plain:
        seen: list[Any] = []
        wanted = shown(plain, 0, lambda step, inputs: seen.append(inputs))
    freezer, _ = start(At({4: 3}), mix=mix, settle=settle)
    with freezer:

        def check(step: int, inputs: Any) -> None:
            assert freezer.depth == (3 if step >= 4 else 0)
            assert freezer.source == ("recompute" if step >= 4 else "images")
            if step < 4:
                assert torch.equal(inputs, seen[step])
            elif mix is None:
                assert torch.equal(inputs, freezer._front.division.prefix(seen[step]))  # type: ignore[union-attr]
            else:
                assert inputs.shape[1:] == freezer.cut.shape  # type: ignore[union-attr]

        got = shown(freezer, 0, check)
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
        end_epoch(freezer)
        assert freezer.source == "cache"
        events = [(r["event"], r["epoch"], r.get("step"), r.get("depth")) for r in freezer.history]
        assert events == [("midway", 0, 4, 3), ("epoch", 0, None, 3), ("freeze", 1, None, 3)]


def test_a_policy_is_asked_before_each_epoch_and_at_its_steps() -> None:
    policy = At({}, every_steps=4)
    run(policy)
    assert policy.asked == [(0, 0), (0, 4), (1, 0), (1, 2), (2, 0), (2, 4), (3, 0), (3, 2)]


DEPTHS: dict[str, dict[int, int]] = {
    "from images": {4: 3},
    "from a cache": {6: 3, 14: 5},
    "twice in an epoch": {8: 1, 10: 3},
    "thawed within an epoch": {2: 3, 16: 0},
    "thawed and frozen anew": {6: 3, 8: 0, 10: 2},
}


@pytest.mark.parametrize("depths", DEPTHS.values(), ids=DEPTHS)
def test_a_run_goes_as_asked_and_a_cached_one_as_the_recomputing_one(depths: dict[int, int]) -> None:
    options: dict[str, Any] = {"ladder": "exact", "views": 1, "transform": PLAIN}
    cached, _ = run(At(depths), **options)
    recomputed, _ = run(At(depths), **options, mode="recompute")
    assert_same_run(cached, recomputed)
    told = [record["depth"] for record in cached.history if record["event"] == "epoch"]
    ends = [(epoch + 1) * STEPS - 2 for epoch in range(EPOCHS)]
    assert told == [max((at, depth) for at, depth in {0: 0, **depths}.items() if at <= end)[1] for end in ends]
    assert len(cached.losses) == EPOCHS * STEPS
    if 0 in depths.values():
        (thaw,) = [record for record in cached.history if record["event"] == "thaw"]
        assert (thaw["before"], thaw["depth"], thaw["cut"]) == (3, 0, "features.2")


@pytest.mark.parametrize("depths", [{0: 3, 8: 0}, {0: 1, 8: 3, 10: 0}], ids=["thawed", "deeper and thawed"])
def test_where_images_follow_on_features_each_sample_comes_once(depths: dict[int, int]) -> None:
    """In an epoch that another process goes on with, too."""
    options: dict[str, Any] = {"views": 1, "mode": "recompute", "transform": PLAIN, "data": Numbered(N)}
    freezer, _ = start(At(depths), **options)
    shown: list[int] = []
    with freezer:
        freezer.end_epoch()
        for step, (_, numbers) in enumerate(freezer.batches(1)):
            shown += numbers.tolist()
            if step == 4:
                break
        state = freezer.state_dict()
    assert len(shown) == 5 * BATCH
    freezer, _ = start(At(depths), **options)
    with freezer:
        freezer.load_state_dict(state)
        shown += [number for _, numbers in freezer.batches(1, 5) for number in numbers.tolist()]
        assert sorted(shown) == list(range(N))
        freezer.end_epoch()
        assert sorted(n for _, numbers in freezer.batches(2) for n in numbers.tolist()) == list(range(N))


@cache
def uninterrupted(name: str) -> Trace:
    """One run for all places at which another is broken off."""
    return run(At(DEPTHS[name]))[0]


@grid(name=DEPTHS.keys(), stop=range(1, 12, 2))
def test_a_run_goes_on_from_its_state_bit_for_bit(tmp_path: Path, name: str, stop: int) -> None:
    stop *= 2
    wanted, depths = uninterrupted(name), DEPTHS[name]
    trace = Trace([], [], {}, [])
    epoch, step = divmod(stop, STEPS)
    freezer, optimizer = start(At(depths), cache_dir=tmp_path)
    with freezer:
        for before in range(epoch):
            steps(freezer, optimizer, trace, before)
        if step:
            steps(freezer, optimizer, trace, epoch, end=step)
        kept = copy.deepcopy((freezer.state_dict(), freezer.model.state_dict(), optimizer.state_dict()))
        random = torch.get_rng_state()
    model = in_place(9)
    freezer, optimizer = start(At(depths), cache_dir=tmp_path, model=model)
    with freezer:
        model.load_state_dict(kept[1])
        freezer.load_state_dict(kept[0])
        optimizer.load_state_dict(kept[2])
        torch.set_rng_state(random)
        for after in range(epoch, EPOCHS):
            steps(freezer, optimizer, trace, after, begin=step if after == epoch else 0)
    trace.weights = dict(model.state_dict())
    assert_same_run(trace, wanted)


def test_what_is_built_within_an_epoch_is_not_counted_twice() -> None:
    began = time.perf_counter()
    _, freezer = run(At({4: 3, 14: 5}))
    assert 0 < freezer.training_seconds <= time.perf_counter() - began


@pytest.mark.parametrize("every", [0, 2.5, True, "2"])
def test_an_interval_is_a_number_of_steps(every: Any) -> None:
    with pytest.raises(PolicyError, match="every_steps is a whole number of at least 1, or None"):
        start(At({}, every_steps=every))
