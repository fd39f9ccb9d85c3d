"""A run that goes on from its state."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from hoarfrost import Freezer, Schedule, TrainState
from hoarfrost.errors import (
    CheckpointError,
)
from shared.distributed_runs import Numbered
from shared.freezers import N, freezer_of, run_epoch
from shared.images import RANDOM, CountingImages, images
from shared.nets import in_place, resnet
from shared.runs import Trace, adamw, assert_same_run, sgd, train_epoch


def start(tmp_path: Path, optimizer_of: Callable[[nn.Module], Any] = sgd, **options: Any) -> tuple[Any, ...]:
    data = options.pop("data", None) or CountingImages(N, RANDOM)
    model = options.pop("model", None) or in_place()
    optimizer = optimizer_of(model)
    policy = Schedule({1: "features.2", 3: "features.7"})
    options = {"policy": policy, "epochs": 5, "cache_dir": tmp_path, "views": 2, "ladder": 8, **options}
    return freezer_of(model, data, optimizer=optimizer, **options), model, optimizer, data


def finish(run: tuple[Any, ...], epochs: range, trace: Trace) -> Trace:
    freezer, model, optimizer, _ = run
    for epoch in epochs:
        train_epoch(freezer, optimizer, epoch, trace)
    trace.weights = {name: value.clone() for name, value in model.state_dict().items()}
    trace.history = list(freezer.history)
    return trace


@pytest.fixture(scope="module", params=[sgd, adamw], ids=["sgd", "adamw"])
def uninterrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Callable[[nn.Module], torch.optim.Optimizer], Trace]:
    torch.manual_seed(3)
    with (whole := start(tmp_path_factory.mktemp("whole"), request.param))[0]:
        torch.manual_seed(3)
        return request.param, finish(whole, range(5), Trace([], [], {}, []))


@pytest.mark.parametrize("stop", [1, 2, 4], ids=["at the first freeze", "between freezes", "after the second"])
def test_a_run_goes_on_from_its_state_bit_for_bit(
    tmp_path: Path, stop: int, uninterrupted: tuple[Callable[[nn.Module], torch.optim.Optimizer], Trace]
) -> None:
    make, wanted = uninterrupted
    with (run := start(tmp_path / "cache", make))[0]:
        torch.manual_seed(3)
        begun = finish(run, range(stop), Trace([], [], {}, []))
        saved = json.loads(json.dumps(run[0].state_dict()))
        weights, optimizer_state = begun.weights, run[2].state_dict()
        random = torch.get_rng_state()
    with (second := start(tmp_path / "cache", make, model=in_place(9)))[0]:
        second[1].load_state_dict(weights)
        second[0].load_state_dict(saved)
        second[2].load_state_dict(optimizer_state)
        torch.set_rng_state(random)
        ended = finish(second, range(stop, 5), Trace(begun.losses, begun.gradients, {}, []))
    assert_same_run(ended, wanted)


def saved_state(tmp_path: Path, **options: Any) -> tuple[dict[str, Any], nn.Module]:
    run = start(tmp_path, **options)
    with run[0]:
        finish(run, range(2), Trace([], [], {}, []))
        return json.loads(json.dumps(run[0].state_dict())), run[1]


def test_the_cache_of_an_earlier_process_is_read_without_an_image(tmp_path: Path) -> None:
    state, model = saved_state(tmp_path)
    freezer, _, _, data = start(tmp_path, model=model)
    with freezer:
        freezer.load_state_dict(state)
        data.reads = 0
        assert freezer.source == "cache"
        list(freezer.batches(2))
        assert data.reads == 0


def test_history_metrics_and_clock_go_on(tmp_path: Path) -> None:
    state, model = saved_state(tmp_path)
    with start(tmp_path, model=model)[0] as freezer:
        freezer.load_state_dict(state)
        again = json.loads(json.dumps(freezer.state_dict()))
        assert again.pop("wall") >= state.pop("wall")
        assert again == state
        assert [entry["event"] for entry in freezer.history] == ["epoch", "freeze", "epoch"]


def test_changed_data_are_named_and_the_cache_is_built_again(tmp_path: Path) -> None:
    state, model = saved_state(tmp_path)
    changed = CountingImages(N, RANDOM)
    changed.images = 255 - changed.images
    with start(tmp_path, model=model, data=changed)[0] as freezer:
        with pytest.warns(
            UserWarning, match=r"hoarfrost builds the cache again: 'data' \(memory.*\) is .* here, but .* in the cache"
        ):
            freezer.load_state_dict(state)
        assert freezer.cache is None
        list(freezer.batches(2))
        assert freezer.source == "cache"


def test_a_cache_that_is_gone_is_built_again(tmp_path: Path) -> None:
    state, model = saved_state(tmp_path / "old")
    with start(tmp_path / "new", model=model)[0] as freezer:
        freezer.load_state_dict(state)
        assert freezer.depth == 3
        list(freezer.batches(2))
        assert freezer.source == "cache"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"seed": 5}, "the checkpoint was made with seed 0, this run has 5"),
        ({"data": images(90, RANDOM)}, "the checkpoint was made with samples 150, this run has 90"),
        (
            {"model": resnet(), "policy": "none"},
            r"frozen up to cut 'features.2' \(depth 3\), where this model has 'stem'",
        ),
        ({"policy": {0: "features.7"}}, "the checkpoint has depth 3, but depth 7 is frozen already"),
    ],
    ids=["seed", "samples", "model", "deeper"],
)
def test_a_state_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    state, _ = saved_state(tmp_path)
    with start(tmp_path, **change)[0] as freezer:
        freezer.decide()
        with pytest.raises(CheckpointError, match=text):
            freezer.load_state_dict(state)


@pytest.mark.parametrize("state", [{}, {"version": 6}], ids=["none", "newer"])
def test_what_is_no_state_is_refused(state: dict[str, Any]) -> None:
    text = "a freezer's state of version 5 is needed, this one has"
    with freezer_of() as freezer, pytest.raises(CheckpointError, match=text):
        freezer.load_state_dict(state)


@pytest.mark.parametrize("depth", [0, 1], ids=["images", "features"])
def test_within_an_epoch_a_state_goes_on_in_batches_of_another_size(depth: int) -> None:
    options: dict[str, Any] = {"policy": {0: depth}, "mode": "recompute", "chunks": 8}
    with freezer_of(in_place(), Numbered(N), batch_size=20, **options) as freezer:
        batches = freezer.batches(0)
        shown = [number for _, (_, numbers) in zip(range(3), batches, strict=False) for number in numbers.tolist()]
        state = json.loads(json.dumps(freezer.state_dict()))
    with freezer_of(in_place(), Numbered(N), batch_size=32, **options) as freezer:
        freezer.load_state_dict(state)
        rest = [numbers for _, numbers in freezer.batches(0, 3)]
        assert len(rest) + 3 == freezer.batches_per_epoch
        assert sorted(shown + torch.cat(rest).tolist()) == list(range(N))
        assert sorted(number for _, numbers in freezer.batches(0) for number in numbers.tolist()) == list(range(N))


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("before", [True, False], ids=["drawn before", "plain before"])
@pytest.mark.parametrize("then", [True, False], ids=["drawn then", "plain then"])
def test_within_an_epoch_a_sampler_that_draws_each_sample_once_may_come_or_go(
    depth: int, before: bool, then: bool
) -> None:
    """As where one process has the sampler, and several share the samples out."""

    def loader(size: int, drawn: bool) -> Any:
        return DataLoader(
            Numbered(N), size, sampler=SubsetRandomSampler(range(N)) if drawn else None, shuffle=None if drawn else True
        )

    options: dict[str, Any] = {"policy": {0: depth}, "mode": "recompute", "chunks": 8, "verbose": False}
    with Freezer(in_place(), loader(20, before), **options) as freezer:
        batches = freezer.batches(0)
        shown = [number for _, (_, numbers) in zip(range(2), batches, strict=False) for number in numbers.tolist()]
        state = json.loads(json.dumps(freezer.state_dict()))
    for size in (20, 6):
        with Freezer(in_place(), loader(size, then), **options) as freezer:
            freezer.load_state_dict(state)
            rest = [numbers for _, numbers in freezer.batches(0, 2)]
            assert len(rest) + 2 == freezer.batches_per_epoch == 2 + -(-(N - len(shown)) // size)
            assert sorted(shown + torch.cat(rest).tolist()) == list(range(N))
            again = json.loads(json.dumps(freezer.state_dict()))
        with Freezer(in_place(), loader(9, before), **options) as freezer:
            freezer.load_state_dict(again)  # an epoch that was whole by then
            assert len(freezer.loader) == -(-N // 9)
            assert freezer.loader.state_dict() == {"epoch": 1, "step": 0}


class Pairing(BatchSampler):
    """One that is not torch's own, so that its batches stay as they are."""

    def __iter__(self) -> Iterator[list[int]]:
        yield from super().__iter__()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (lambda size: {"batch_size": size, "sampler": WeightedRandomSampler([1.0] * N, N)}, "draws samples more than"),
        (lambda size: {"batch_sampler": Pairing(RandomSampler(range(N)), size, False)}, "makes the batches"),
    ],
    ids=["drawn more than once", "batches made"],
)
def test_what_nobody_can_tell_of_an_epoch_that_is_left_is_not_guessed(
    options: Callable[[int], dict[str, Any]], why: str
) -> None:
    def made(size: int) -> Freezer:
        loader = DataLoader(Numbered(N), **options(size))
        return Freezer(in_place(), loader, policy={0: 2}, mode="recompute", verbose=False)

    with made(50) as freezer:
        whole = torch.cat([numbers for _, numbers in freezer.batches(0)])
        over = freezer.state_dict()
        first = next(freezer.batches(0))[1]
        state = json.loads(json.dumps(freezer.state_dict()))
    with made(40) as freezer:
        words = (
            rf"within epoch 0, in batches of 50 on 1 ranks, and the sampler {why}.*in batches of 40: go on as before, "
            "or from a state between"
        )
        with pytest.raises(CheckpointError, match=words):
            freezer.load_state_dict(state)
        assert freezer.depth == 0
        freezer.load_state_dict(over)
        assert freezer.loader.state_dict() == {"epoch": 1, "step": 0}
    with made(50) as freezer:
        freezer.load_state_dict(state)
        assert torch.equal(torch.cat([first, *(numbers for _, numbers in freezer.batches(0, 1))]), whole)


@pytest.mark.parametrize(
    ("drawn", "words"), [("%", "no base 64"), ("AAAA", "a part tells of 24 samples, and there are 150")]
)
def test_parts_that_are_none_are_refused(drawn: str, words: str) -> None:
    with freezer_of(in_place(), Numbered(N), policy={0: 2}, mode="recompute", batch_size=50) as freezer:
        next(freezer.batches(0))
        state = freezer.state_dict()
    state["parts"][0]["drawn"] = drawn
    with (
        freezer_of(in_place(), Numbered(N), policy={0: 2}, mode="recompute", batch_size=50) as freezer,
        pytest.raises(CheckpointError, match=words),
    ):
        freezer.load_state_dict(state)
    assert freezer.depth == 0


def test_the_memory_of_a_policy_goes_through_the_state() -> None:
    class Counting:
        def __init__(self) -> None:
            self.asked = 0

        def __call__(self, state: TrainState, /) -> int:
            self.asked += 1
            return 0

        def state_dict(self) -> dict[str, Any]:
            return {"asked": self.asked}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.asked = state["asked"]

    first, second = Counting(), Counting()
    with freezer_of(policy=first) as freezer:
        run_epoch(freezer, 0)
        state = freezer.state_dict()
    with freezer_of(policy=second) as freezer:
        freezer.load_state_dict(state)
    assert second.asked == first.asked == 2


@pytest.mark.parametrize("broken", [None, [], {}, "history"], ids=["nothing", "a list", "empty", "no history"])
def test_what_is_no_state_is_refused_and_nothing_is_loaded(broken: Any) -> None:
    with freezer_of() as freezer:
        state = {**freezer.state_dict(), "history": None} if broken == "history" else broken
        with pytest.raises(CheckpointError, match="a freezer's state of version"):
            freezer.load_state_dict(state)
        assert freezer.history == []


OTHER_SETTINGS: dict[str, Any] = {
    "policy": {2: "features.2"},
    "mode": "recompute",
    "ladder": "half",
    "settle": "last",
    "views": 1,
    "tolerance": 0.5,
}


@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_a_state_that_other_settings_decided_is_refused_by_their_name(tmp_path: Path, name: str) -> None:
    state, model = saved_state(tmp_path, policy={1: "features.2"})
    with start(tmp_path, policy={1: "features.2"}, model=in_place(9))[0] as same:
        same.model.load_state_dict(model.state_dict())
        same.load_state_dict(state)
    options = {"policy": {1: "features.2"}, name: OTHER_SETTINGS[name]}
    with (
        start(tmp_path, **options, model=in_place(9))[0] as other,
        pytest.raises(
            CheckpointError, match=rf"was made with {name}=.*, this run has {name}=.* Make the Freezer as it"
        ),
    ):
        other.load_state_dict(state)


def test_a_state_of_other_cuts_is_refused_where_as_many_are_frozen(tmp_path: Path) -> None:
    state, _ = saved_state(tmp_path, policy={1: 1}, cuts="features.2")
    told = {"policy": {1: 1}, "model": in_place(9)}
    with (
        start(tmp_path, **told, cuts="features.4")[0] as other,
        pytest.raises(CheckpointError, match=r"cut 'features.2' \(depth 1\), where this model has 'features.4'"),
    ):
        other.load_state_dict(state)
    assert other.depth == 0


def test_a_state_that_is_refused_thaws_nothing(tmp_path: Path) -> None:
    state, _ = saved_state(tmp_path, policy={3: "features.2"}, epochs=2)
    with start(tmp_path, policy="egeria", tolerance=0.5, model=in_place(9))[0] as other:
        other._epochs._front.freeze(1, 0, None)
        assert other._epochs._asking.may_thaw
        with pytest.raises(CheckpointError, match="was made with policy="):
            other.load_state_dict(state)
        assert other.depth == 1


@pytest.mark.parametrize("harmless", [{"memory_budget": 0}, {"workers": 1}, {"disk_budget": 1 << 40}])
def test_settings_by_which_nothing_was_decided_may_differ(tmp_path: Path, harmless: dict[str, int]) -> None:
    state, model = saved_state(tmp_path)
    with start(tmp_path / "elsewhere", model=in_place(9), **harmless)[0] as other:
        other.model.load_state_dict(model.state_dict())
        other.load_state_dict(state)
        assert other.depth
