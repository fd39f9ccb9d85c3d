"""Every policy runs to its end on several models, can be resumed in the middle, and thaws completely where it thaws."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from hoarfrost import Freezer, TrainState
from hoarfrost.checkpoints import load_tree, random_state, restore_random_state, save_tree
from hoarfrost.errors import PolicyError
from hoarfrost.policies import (
    CKA,
    NAMED,
    SVCCA,
    AutoFreeze,
    Budget,
    Egeria,
    FreezeOut,
    Geometric,
    Periodic,
)
from shared.grids import grid
from shared.images import RANDOM, images
from shared.runs import sgd

EPOCHS = 4

EAGER: dict[str, Callable[[], Any]] = {
    **NAMED,
    "budget": lambda: Budget(seconds=1e-3),  # as much as trials let it
    "cka": lambda: CKA(threshold=0.3),
    "svcca": lambda: SVCCA(threshold=0.3),
    "egeria": lambda: Egeria(window=2, tolerance=2.0, refresh=2, thaw_at=None),
}
"""Criteria of which the thresholds are low enough to act on a few steps."""

OFTEN: dict[str, Callable[[], Any]] = {
    "cka": lambda: CKA(threshold=0.3, every_steps=3),
    "svcca": lambda: SVCCA(threshold=0.3, every_steps=3),
    "egeria": lambda: Egeria(window=2, tolerance=2.0, refresh=2, thaw_at=None, every_steps=1),
    "autofreeze": lambda: AutoFreeze(every_steps=1),
}
"""Asked within epochs of four steps, and where these end only if an interval does."""


class Blocks(nn.Module):
    """Convolutions with batch norm and dropout, in two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 5, 4), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.1))
        self.out = nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.out(self.second(self.first(images)).flatten(1))
        return out


class Tokens(nn.Module):
    """Two blocks of attention on tokens at their places, and a mean over them."""

    embed: nn.Module

    def __init__(self, places: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(places, 8))
        self.blocks = nn.Sequential(
            *(nn.TransformerEncoderLayer(8, 2, 16, 0.1, batch_first=True, norm_first=True) for _ in range(2))
        )
        self.out = nn.Linear(8, 10)

    def classes(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.out(self.blocks(tokens + self.places).mean(1))
        return out


class Patches(Tokens):
    """A small ViT."""

    def __init__(self) -> None:
        super().__init__(16)
        self.embed = nn.Conv2d(1, 8, 7, 7)

    def forward(self, images: Tensor) -> Tensor:
        return self.classes(self.embed(images).flatten(2).transpose(1, 2))


class Words(Tokens):
    """A text: whole numbers go in."""

    def __init__(self) -> None:
        super().__init__(12)
        self.embed = nn.Embedding(20, 8)

    def forward(self, words: Tensor) -> Tensor:
        return self.classes(self.embed(words))


def texts(n: int) -> TensorDataset:
    words = torch.randint(0, 20, (n, 12), generator=torch.Generator().manual_seed(0))
    return TensorDataset(words, words.sum(1) % 10)


MODELS = {"cnn": Blocks, "vit": Patches, "words": Words}


def blocks(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Blocks()


def freezer_of(model: nn.Module, policy: Any, optimizer: Any = None, **options: Any) -> Freezer:
    given = {"batch_size": 30, "epochs": EPOCHS, "mode": "recompute", "policy": policy, **options}
    data = texts(60) if isinstance(model, Words) else images(60, RANDOM)
    return Freezer(model, data, optimizer=optimizer or sgd(model), **given)


def run(freezer: Freezer, epoch: int, start: int = 0, stop: int | None = None) -> None:
    """One epoch of a user's loop, or some of its steps."""
    optimizer = freezer.optimizer
    freezer.model.train()
    for step, (inputs, targets) in enumerate(freezer.batches(epoch, start), start):
        optimizer.zero_grad()  # type: ignore[union-attr]
        nn.functional.cross_entropy(freezer(inputs), targets).backward()
        optimizer.step()  # type: ignore[union-attr]
        if step + 1 == stop:
            return
    freezer.end_epoch({"loss": 1.0})


def frozen_for(name: str, model: nn.Module) -> nn.Module:
    """With a front that wants no gradients, for the policy that takes that over."""
    if name == "frozen":
        model.requires_grad_(False)
        model.out.requires_grad_(True)  # type: ignore[operator, union-attr]
    return model


@grid(name=sorted(NAMED), make_model=MODELS)
def test_runs_to_its_end_within_bounds(name: str, make_model: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    with freezer_of(frozen_for(name, make_model()), EAGER[name]()) as freezer:
        for epoch in range(EPOCHS):
            run(freezer, epoch)
        depths = [record["depth"] for record in freezer.history if record["event"] == "epoch"]
        assert len(depths) == EPOCHS
        assert all(0 <= depth <= len(freezer.cuts) for depth in depths)
        if not getattr(freezer.policy, "thaws", False):
            assert depths == sorted(depths)
        assert all(p.isfinite().all() for p in freezer.model.parameters())


@pytest.mark.parametrize("make", OFTEN.values(), ids=OFTEN)
def test_intervals_of_steps_are_heard_of_within_epochs(make: Callable[[], Any]) -> None:
    with freezer_of(blocks(), make(), batch_size=15) as freezer:
        for epoch in range(EPOCHS):
            run(freezer, epoch)
        assert [r for r in freezer.history if r["event"] == "midway"]
        for record in (r for r in freezer.history if r["event"] == "midway"):
            assert (record["epoch"] * 4 + record["step"]) % freezer.policy.every_steps == 0


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_resumed_run_decides_and_trains_as_an_undisturbed_one(name: str, tmp_path: Any) -> None:
    whole = freezer_of(frozen_for(name, blocks()), EAGER[name]())
    for epoch in range(EPOCHS):
        run(whole, epoch)

    first = freezer_of(frozen_for(name, blocks()), EAGER[name]())
    for epoch in range(2):
        run(first, epoch)
    run(first, 2, stop=1)
    optimizer: Any = first.optimizer
    tree = {"freezer": first.state_dict(), "model": first.model.state_dict(), "optimizer": optimizer.state_dict()}
    tree["random"] = random_state()
    save_tree(tmp_path / "tree", tree)
    loaded = load_tree(tmp_path / "tree")

    again = freezer_of(frozen_for(name, blocks(seed=1)), EAGER[name]())
    again.model.load_state_dict(loaded["model"])
    again.load_state_dict(loaded["freezer"])
    again.optimizer.load_state_dict(loaded["optimizer"])  # type: ignore[union-attr]
    restore_random_state(loaded["random"])
    run(again, 2, start=1)
    run(again, 3)
    told = [[r["depth"] for r in f.history if r["event"] == "epoch"] for f in (whole, again)]
    assert told[0] == told[1]
    for (key, wanted), value in zip(whole.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=0, msg=key)
    for freezer in (whole, first, again):
        freezer.close()


def test_features_that_settle_are_frozen_in_these_runs() -> None:
    for name in ("cka", "svcca", "egeria"):
        with freezer_of(blocks(), EAGER[name]()) as freezer:
            for epoch in range(EPOCHS):
                run(freezer, epoch)
            assert freezer.depth > 0, name


class Bouncing:
    """Down, up and down again."""

    thaws = True

    def __init__(self, depths: list[int]) -> None:
        self.depths = depths

    def __call__(self, state: TrainState) -> int:
        return self.depths[state.epoch]


@pytest.mark.parametrize("depths", [[0, 2, 0], [1, 2, 3, 0], [0, 3, 1], [3, 1, 2, 0]], ids=str)
def test_after_a_thaw_everything_is_as_it_was_and_the_cache_is_gone(depths: list[int], tmp_path: Any) -> None:
    model = blocks()
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in model.parameters() if p.dim() > 1]},
            {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
        ],
        lr=0.05,
        momentum=0.9,
    )
    groups = [list(group["params"]) for group in optimizer.param_groups]
    policy = Bouncing(depths)
    with freezer_of(
        model, policy, optimizer, mode="cache", ladder="exact", cache_dir=tmp_path, epochs=len(depths)
    ) as freezer:
        for epoch, depth in enumerate(depths):
            if epoch:  # in front of the first one nothing is asked yet
                frozen = [p for p in model.parameters() if not p.requires_grad]
                assert (freezer.depth, bool(frozen)) == (depth, bool(depth))
            if epoch == len(depths) - 1 and not depth:
                held = [list(group["params"]) for group in optimizer.param_groups]
                assert [[*map(id, group)] for group in held] == [[*map(id, group)] for group in groups]
                assert all(module.training for module in model.modules())
                before = copy.deepcopy(model.state_dict())
            run(freezer, epoch, stop=1)
            assert len([*tmp_path.glob("*/manifest.json")]) == (freezer.cache is not None) == bool(depth)
            run(freezer, epoch, start=1)
    if depths[-1] == 0:
        # A convolution's bias in front of a batch norm has no gradient but rounding.
        stood = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
        assert stood <= {"first.0.bias"}


def test_groups_are_split_and_show_the_loops_own_rate_between_steps() -> None:
    model = blocks()
    optimizer = sgd(model)
    used: list[list[float]] = []
    with freezer_of(model, FreezeOut(scale="linear", t0=0.5), optimizer) as freezer:
        watched = len(optimizer.param_groups)
        assert watched == sum(bool(segment.names) for segment in freezer._asking.observer.segments) > 1
        optimizer.register_step_pre_hook(lambda o, *_: used.append([group["lr"] for group in o.param_groups]))
        scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5)
        run(freezer, 0)
        scheduler.step()
        assert {group["lr"] for group in optimizer.param_groups} == {0.025}
    policy = FreezeOut(scale="linear", t0=0.5)
    wanted = [[policy.rate(n, watched, step / 2 / EPOCHS, 0, 0.05) for n in range(watched)] for step in range(2)]
    assert [rates == pytest.approx(want) for rates, want in zip(used, wanted, strict=True)] == [True, True]


def test_a_scheduler_made_before_is_refused() -> None:
    model = blocks()
    optimizer = sgd(model)
    torch.optim.lr_scheduler.ConstantLR(optimizer)
    with pytest.raises(PolicyError, match="make the scheduler after the Freezer"):
        freezer_of(model, "freezeout", optimizer)


def test_rates_without_an_optimizer_are_refused() -> None:
    with pytest.raises(PolicyError, match="with a torch optimizer, not NoneType"):
        Freezer(blocks(), images(60), batch_size=30, epochs=4, policy="freezeout")


def test_a_policy_that_asks_for_nothing_leaves_no_hook() -> None:
    model = blocks()
    with freezer_of(model, Geometric()) as freezer:
        assert len(freezer.optimizer.param_groups) == 1  # type: ignore[union-attr]
        assert not any(p._backward_hooks for p in model.parameters())
        run(freezer, 0)
        assert freezer._asking.observer.seconds == 0


def test_closing_takes_the_hooks_away() -> None:
    model = blocks()
    freezer = freezer_of(model, "autofreeze")
    assert all(p._backward_hooks for p in model.parameters())
    freezer.close()
    assert not any(p._backward_hooks for p in model.parameters())


def test_what_watching_costs_is_in_the_records() -> None:
    with freezer_of(blocks(), "cka") as freezer:
        run(freezer, 0)
        watched = [record["watch_seconds"] for record in freezer.history if record["event"] == "epoch"]
        assert watched[0] > 0


def test_a_users_function_may_look_at_the_model() -> None:
    seen: list[TrainState] = []

    def policy(state: TrainState) -> int:
        assert state.lr == 0.05
        assert state.step == 2 * state.epoch
        assert state.losses == (1.0,) * state.epoch
        assert sum(len(state.weights(n)) for n in range(len(state.segments))) == total
        assert [features.shape[0] for features in state.activations()] == [60] * (len(state.segments) - 1)
        with pytest.raises(PolicyError, match=r"needs gradient_epochs\(epochs\)"):
            _ = state.gradient_norms
        seen.append(state)
        return 0

    model = blocks()
    total = sum(p.numel() for p in model.parameters())
    with freezer_of(model, policy) as freezer:
        run(freezer, 0)
        run(freezer, 1)
    assert len(seen) == 3
    assert not seen[0].may_thaw
    assert "observer" not in repr(seen[0])


def test_periodic_comes_back_to_images() -> None:
    with freezer_of(blocks(), Periodic(periods=2)) as freezer:
        for epoch in range(EPOCHS):
            run(freezer, epoch)
        sources = [record["source"] for record in freezer.history if record["event"] == "epoch"]
    assert sources == ["images", "recompute"] * 2
