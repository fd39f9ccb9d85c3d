"""Which statistics a front freezes with when that is left to be told by whether its weights have moved."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hoarfrost import Freezer
from hoarfrost.freezing import Movement
from shared.images import PLAIN, RANDOM, images
from shared.nets import resnet, vit
from shared.runs import Trace, assert_same_run, sgd, train, train_epoch

KEPT = {"way": "last", "why": "none of its weights has moved"}
ANEW = {"way": "statistics", "why": "its weights have moved"}


def taught(seed: int = 0) -> nn.Module:
    """With statistics of its own, as weights that are loaded have."""
    model = resnet(seed).train()
    with torch.no_grad():
        for _ in range(20):
            model(3 * torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(1)) + 1)
    return model


def settled(trace: Trace) -> list[Any]:
    return [record["settled"] for record in trace.history if record["event"] == "freeze"]


def statistics_of(model: nn.Module, part: str) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.get_submodule(part).named_buffers()}


@pytest.mark.parametrize(
    ("policy", "like", "ways"),
    [
        ({0: "layer1"}, "last", [KEPT]),
        ({1: "layer1"}, "statistics", [ANEW]),
        ({1: "layer1", 2: "layer2"}, "statistics", [ANEW, ANEW]),
    ],
    ids=["from the start", "after an epoch", "twice"],
)
def test_left_to_itself_a_front_keeps_its_statistics_until_its_weights_move(
    policy: Any, like: str, ways: list[Any]
) -> None:
    runs = [train(taught(), images(150, PLAIN), policy=policy, epochs=3, **told) for told in ({}, {"settle": like})]
    assert_same_run(*runs)
    assert settled(runs[0]) == ways
    why = "batch norms keep their statistics" if like == "last" else "statistics of batch norms estimated anew"
    assert f"{why}: {ways[0]['why']}" in next(r["decision"] for r in runs[0].history if r["event"] == "freeze")


def test_of_a_deeper_freeze_what_was_frozen_keeps_what_it_had() -> None:
    model, seen = taught(), {}
    before = statistics_of(model, "layer1")

    def look(freezer: Freezer, epoch: int) -> None:
        seen[epoch] = statistics_of(model, "layer2")

    trace = train(model, images(150, PLAIN), policy={0: "layer1", 2: "layer2"}, epochs=3, after_epoch=look)
    assert settled(trace) == [KEPT, ANEW]
    now = statistics_of(model, "layer1")
    assert all(torch.equal(now[name], value) for name, value in before.items())
    assert any(not torch.equal(seen[1][name], value) for name, value in seen[0].items() if "running" in name)


def with_rate(freezer: Freezer, optimizer: torch.optim.Optimizer, epoch: int, rate: float) -> None:
    for group in optimizer.param_groups:
        group.update(lr=rate, momentum=0.0)
    train_epoch(freezer, optimizer, epoch, Trace([], [], {}, []))


OPTIONS: dict[str, Any] = {"batch_size": 50, "epochs": 3, "transform": RANDOM, "verbose": False}


def test_steps_at_a_rate_of_zero_move_nothing() -> None:
    model = taught()
    optimizer = sgd(model)
    with Freezer(model, images(150), optimizer=optimizer, policy={1: "layer1"}, **OPTIONS) as freezer:
        with_rate(freezer, optimizer, 0, 0.0)
        next(freezer.batches(1))
        assert freezer.history[-1]["settled"] == KEPT


def test_weights_that_are_loaded_before_the_first_batch_are_where_it_begins() -> None:
    model, other = resnet(1), taught()
    optimizer = sgd(model)
    with Freezer(model, images(150), optimizer=optimizer, policy={1: "layer1"}, **OPTIONS) as freezer:
        model.load_state_dict(other.state_dict())
        with_rate(freezer, optimizer, 0, 0.0)
        next(freezer.batches(1))
        assert freezer.history[-1]["settled"] == KEPT


def test_a_resumed_run_knows_that_weights_moved_before() -> None:
    """They moved in the first epoch, and not in the second, which a second process runs."""
    told: dict[str, Any] = {**OPTIONS, "policy": {2: "layer1"}}
    model = taught()
    optimizer = sgd(model)
    with Freezer(model, images(150), optimizer=optimizer, **told) as freezer:
        with_rate(freezer, optimizer, 0, 0.05)
        kept = copy.deepcopy((model.state_dict(), freezer.state_dict()))
    model = resnet(1)
    optimizer = sgd(model)
    model.load_state_dict(kept[0])
    with Freezer(model, images(150), optimizer=optimizer, **told) as freezer:
        freezer.load_state_dict(kept[1])
        with_rate(freezer, optimizer, 1, 0.0)
        next(freezer.batches(2))
        assert freezer.history[-1]["settled"] == ANEW


def test_what_a_freeze_was_settled_as_outlives_a_process(tmp_path: Any) -> None:
    """A state between the freeze and its record: the run that goes on estimates nothing, and says what was done."""
    told: dict[str, Any] = {**OPTIONS, "policy": {1: "layer1"}}
    model = taught()
    optimizer = sgd(model)
    with Freezer(model, images(150), optimizer=optimizer, **told) as freezer:
        with_rate(freezer, optimizer, 0, 0.05)
        kept = copy.deepcopy((model.state_dict(), freezer.state_dict()))
        frozen = statistics_of(model, "layer1")
    model = resnet(1)
    model.load_state_dict(kept[0])
    with Freezer(model, images(150), optimizer=sgd(model), **told) as freezer:
        freezer.load_state_dict(kept[1])
        next(freezer.batches(1))
        assert freezer.history[-1]["settled"] == ANEW
        now = statistics_of(model, "layer1")
        assert all(torch.equal(now[name], value) for name, value in frozen.items())


def test_without_batch_norms_there_is_nothing_to_settle() -> None:
    policy = {1: "encoder.layers.encoder_layer_0"}
    runs = [train(vit(), images(150, PLAIN), policy=policy, epochs=2, **told) for told in ({}, {"settle": "last"})]
    assert_same_run(*runs)
    assert settled(runs[0]) == [None]


def test_batch_norms_in_eval_are_said_to_be_kept() -> None:
    model = taught().eval()
    optimizer = sgd(model)
    with Freezer(
        model, images(150, PLAIN), optimizer=optimizer, policy={1: "layer1"}, batch_size=50, epochs=2
    ) as freezer:
        for inputs, targets in freezer.batches(0):
            nn.functional.cross_entropy(freezer(inputs), targets).backward()
            optimizer.step()
        freezer.end_epoch()
        next(freezer.batches(1))
        assert freezer.history[-1]["settled"] == {"way": "last", "why": "its batch norms are kept in eval"}


def test_movement_is_a_matter_of_values() -> None:
    model = resnet()
    movement, names = Movement(model), [name for name, _ in model.named_parameters()]
    with torch.no_grad():
        model.get_parameter(names[0]).add_(1)  # before anything began
    assert not movement.moved(names)
    movement.begin()
    with torch.no_grad():
        model.get_parameter(names[1]).mul_(1)  # written to, with the same values
    assert not movement.moved(names)
    model.get_parameter(names[2]).data.flatten()[0] += 1e-3  # which torch does not count
    assert movement.moved(names)
    assert movement.moved([names[2]])
    assert not movement.moved(names[:2])
    movement.begin()  # it began once
    other = Movement(model)
    other.load_state_dict(movement.state_dict())
    assert other.moved([names[2]])
