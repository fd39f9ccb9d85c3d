"""Budget: on constructed prices with a clock of its own, and on real trainings."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from hoarfrost import Freezer, TrainState
from hoarfrost.errors import PolicyError, UnwatchedError
from hoarfrost.policies import Budget, resolve_policy
from hoarfrost.watching import DepthPrice, EpochTime, Prices, Segment, Trial
from shared.images import PLAIN, images
from shared.nets import resnet
from shared.runs import sgd

EPOCHS = 20
CUTS: Any = tuple(type("Cut", (), {"index": n, "label": f"layer{n + 1}", "recommended": True})() for n in range(3))
PRICES = Prices(
    step=9.0,
    images=1.0,
    views=2,
    depths=(
        DepthPrice(1, suffix=6.0, prefix=1.0, read=0.1, settle=1.0),
        DepthPrice(2, suffix=3.0, prefix=2.0, read=0.1, settle=1.0),
        DepthPrice(3, suffix=0.5, prefix=2.5, read=0.1, settle=1.0),
    ),
)


@dataclass
class World:
    """A training that takes `slower` times what its prices say, from an epoch on."""

    slower: Callable[[int], float] = lambda epoch: 1.0
    hurts: Sequence[int] = ()
    beside: float = 0.0
    """Seconds of evaluation in each epoch."""
    once: float = 0.0
    """Seconds before the first."""
    clock: float = 0.0
    done: list[EpochTime] = field(default_factory=list)
    tried: list[tuple[int, int]] = field(default_factory=list)

    steps = 50
    segments = tuple(Segment(depth, (), 10 * (n + 1)) for n, depth in enumerate((1, 2, 3, None)))

    def weights(self, segment: int, most: int | None = None) -> Tensor:
        return torch.full((4,), 2.0 - 0.5 ** len(self.done))

    def training(self) -> float:
        return self.clock

    def wall(self) -> float:
        return self.clock + self.once + self.beside * len(self.done)

    def epochs(self) -> list[EpochTime]:
        return self.done

    def prices(self) -> Prices:
        self.clock += 0.5
        return PRICES

    def trial(self, depth: int, steps: int) -> Trial:
        self.tried.append((len(self.done), depth))
        self.clock += 2 * 9.0 * steps / self.steps
        return Trial(steps, 1.0, 0.8, 1.1 if depth in self.hurts else 0.8, 0.01)


def lived(policy: Budget, world: World, epochs: int = EPOCHS, metrics: Sequence[Any] = (), start: int = 0) -> list[int]:
    """The depth in each epoch."""
    depths: list[int] = []
    depth = world.done[-1].depth if world.done else 0
    for epoch in range(start, epochs):
        seen: Any = tuple(metrics[:epoch])
        asked = policy(TrainState(epoch, epochs, depth, CUTS, seen, False, world, 0, world))  # type: ignore[arg-type]
        assert depth <= asked <= 3
        slow = world.slower(epoch)
        once, each = PRICES.frozen(asked, epochs - epoch) if asked else (0.0, PRICES.full)
        world.clock += slow * (each + (once if asked > depth else 0.0))
        depth = asked
        world.done.append(EpochTime(depth, "images", slow * each))
        depths.append(depth)
    return depths


@pytest.mark.parametrize("speedup", [1.1, 1.25, 1.5, 2.0, 2.5, 3.0])
def test_a_speedup_is_kept_as_late_as_can_be(speedup: float) -> None:
    world = World()
    depths = lived(Budget(speedup=speedup), world)
    allowed = EPOCHS * PRICES.full / speedup
    assert 0.85 * allowed <= world.clock <= allowed
    assert depths[0] == 0


@pytest.mark.parametrize("told", ["seconds", "minutes"])
def test_a_time_is_kept_evaluation_included(told: str) -> None:
    world = World(beside=1.5, once=12.0)
    given = 160.0 if told == "seconds" else 160 / 60
    lived(Budget(**{told: given}), world)
    assert 0.85 * 160 <= world.wall() <= 160


def test_enough_time_freezes_nothing() -> None:
    world = World()
    assert set(lived(Budget(seconds=1000), world)) == {0}
    assert not world.tried


@pytest.mark.parametrize("slow", [0.6, 1.5, 2.5])
def test_a_machine_that_is_not_as_fast_as_it_was_measured(slow: float) -> None:
    world = World(slower=lambda epoch: slow)
    lived(Budget(speedup=1.6), world)
    assert 0.85 <= world.clock / (slow * EPOCHS * PRICES.full / 1.6) <= 1.03


def test_a_machine_that_grows_slower_freezes_more() -> None:
    steady, slowing = World(), World(slower=lambda epoch: 1.0 if epoch < 8 else 1.5)
    before, after = lived(Budget(seconds=150), steady), lived(Budget(seconds=150), slowing)
    assert sum(after) > sum(before)
    assert slowing.clock <= 1.1 * 150


def test_a_promise_that_cannot_be_kept_is_said_at_once() -> None:
    world = World()
    with pytest.warns(UserWarning, match=r"Budget\(speedup=50\) cannot be kept: freezing up to 'layer3'") as told:
        depths = lived(Budget(speedup=50.0), world)
    assert depths[0] == 3
    assert len(told) == 1


@pytest.mark.filterwarnings("ignore:hoarfrost")
def test_what_hurts_is_not_frozen() -> None:
    lived(Budget(speedup=1.5), free := World())
    ((_, wanted),) = free.tried
    depths = lived(Budget(speedup=1.5), world := World(hurts=range(wanted, 4)))
    assert world.tried[0][1] == wanted
    assert 0 < max(depths) < wanted


@pytest.mark.filterwarnings("ignore:hoarfrost")
def test_where_all_hurts_the_promise_gives_way_and_trials_are_few() -> None:
    world = World(hurts=(1, 2, 3))
    policy = Budget(speedup=2.0)
    assert set(lived(policy, world)) == {0}
    assert "would hurt now" in policy.why
    for depth in (1, 2, 3):
        epochs = [epoch for epoch, tried in world.tried if tried == depth]
        assert all(later - earlier >= 2 for earlier, later in itertools.pairwise(epochs))


def test_decisions_are_explained() -> None:
    policy, world, told = Budget(speedup=2.0), World(), []
    depth = 0
    for epoch in range(EPOCHS):
        (depth,) = _one(policy, world, epoch, depth)
        told.append(policy.why)
    assert told[5].startswith("no freeze yet, 'layer")
    (freezing,) = [line for line in told if line.startswith("freezing up to 'layer")]
    assert "steps of trial the loss is 0.800" in freezing
    assert told[-1] == ""


def test_a_resumed_run_decides_alike() -> None:
    world, policy = World(), Budget(speedup=1.7)
    lived(policy, world, 20)
    whole = [epoch.depth for epoch in world.done]
    for stop in (1, 5, 9, 14):
        first, before = Budget(speedup=1.7), World()
        depths: list[int] = []
        for epoch in range(stop):
            depths += _one(first, before, epoch, depths[-1] if depths else 0)
        again = Budget(speedup=1.7)
        again.load_state_dict(copy.deepcopy(first.state_dict()))
        for epoch in range(stop, EPOCHS):
            depths += _one(again, before, epoch, depths[-1])
        assert depths == whole


def _one(policy: Budget, world: World, epoch: int, depth: int) -> list[int]:
    asked = policy(TrainState(epoch, EPOCHS, depth, CUTS, (), False, world, 0, world))  # type: ignore[arg-type]
    once, each = PRICES.frozen(asked, EPOCHS - epoch) if asked else (0.0, PRICES.full)
    world.clock += each + (once if asked > depth else 0.0)
    world.done.append(EpochTime(asked, "images", each))
    return [asked]


RISING = [{"val_accuracy": 0.9 - 0.5 * 0.8**epoch} for epoch in range(EPOCHS)]


def test_points_freeze_later_where_fewer_may_be_lost() -> None:
    summed = [sum(lived(Budget(points=points), World(), metrics=RISING)) for points in (0.1, 0.5, 2.0)]
    assert summed == sorted(summed)
    assert summed[0] < summed[-1]


@pytest.mark.filterwarnings("ignore:hoarfrost")
def test_points_come_before_time() -> None:
    world = World()
    assert sum(lived(Budget(speedup=3.0, points=0.05), world, metrics=RISING)) < sum(
        lived(Budget(speedup=3.0), World(), metrics=RISING)
    )


def test_points_need_the_accuracy() -> None:
    with pytest.raises(PolicyError, match="needs to see the accuracy"):
        lived(Budget(points=0.5), World(), metrics=[{"loss": 1.0}] * EPOCHS)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("2x", Budget(speedup=2.0)),
        ("90s", Budget(seconds=90)),
        ("30min", Budget(minutes=30)),
        ("1.5h", Budget(minutes=90)),
        ("0.3points", Budget(points=0.3)),
        ("2x,0.5points", Budget(speedup=2.0, points=0.5)),
    ],
)
def test_it_is_told_in_a_word(text: str, budget: Budget) -> None:
    assert resolve_policy(f"budget:{text}") == budget


@pytest.mark.parametrize("text", ["2", "x", "2 hours", "fast", "-2x", "2x;3s"])
def test_a_word_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(PolicyError, match='a budget is told as "2x"'):
        resolve_policy(f"budget:{text}")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"speedup": 2.0, "seconds": 9}, "give one of"),
        ({"speedup": 0.5}, "at least 1"),
        ({"minutes": 0}, "above 0"),
        ({"points": -1.0}, "above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(given: Any, text: str) -> None:
    with pytest.raises(PolicyError, match=text):
        Budget(**given)


def test_without_a_training_there_is_nothing_to_measure() -> None:
    with pytest.raises(UnwatchedError, match="only a Freezer's can measure one"):
        TrainState(0, 5, 0, CUTS).bench  # noqa: B018


# ---------------------------------------------------------------------- on a real training


def trained(policy: Any, epochs: int = 6, **options: Any) -> Freezer:
    model = resnet()
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    with Freezer(
        model, images(200, PLAIN), batch_size=20, epochs=epochs, policy=policy, optimizer=optimizer, **options
    ) as freezer:
        for epoch in range(epochs):
            model.train()
            for inputs, targets in freezer.batches(epoch):
                loss = torch.nn.functional.cross_entropy(freezer(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            freezer.end_epoch({"loss": loss.item()})
    return freezer


class Measuring:
    """A policy that measures all there is and freezes nothing."""

    def __init__(self) -> None:
        self.prices: list[Prices] = []
        self.trials: list[Trial | None] = []

    def __call__(self, state: TrainState) -> int:
        self.prices.append(state.bench.prices())
        self.trials.append(state.bench.trial(state.cuts[-1].index + 1, 3))
        return 0


def test_measuring_leaves_the_training_as_it_is() -> None:
    torch.manual_seed(1)
    plain = trained("none", 2).model.state_dict()
    torch.manual_seed(1)
    policy = Measuring()
    measured = trained(policy, 2).model.state_dict()
    assert all(torch.equal(plain[name], measured[name]) for name in plain)
    for prices in policy.prices:
        assert prices.full > 0
        suffixes = [price.suffix for price in prices.depths]
        assert suffixes == sorted(suffixes, reverse=True)
        assert [price.prefix for price in prices.depths] == sorted(price.prefix for price in prices.depths)
        assert Prices.from_config(prices.to_config()) == prices
    for trial in policy.trials:
        assert trial is not None
        assert trial.free != trial.frozen
        assert trial.error > 0


def test_a_real_run_is_explained_and_counted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        freezer = trained(Budget(seconds=0.2))  # more than can be: all freezes as early as the trials let it
    why = [record["why"] for record in freezer.history if record["event"] == "decision"]
    assert why
    assert "the promise cannot be kept" in why[0]
    assert freezer._asking._measurements.wall() >= freezer.training_seconds
