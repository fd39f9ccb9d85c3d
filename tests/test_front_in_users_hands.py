"""A front in the hands of the loop: frozen by requires_grad, changed behind a freeze, thawed, and given back."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hoarfrost import Freezer
from hoarfrost.errors import FrontChangedError, PolicyError
from hoarfrost.feeding.front_guard import FrontGuard
from shared.grids import grid
from shared.images import PLAIN, images
from shared.nets import resnet
from shared.runs import sgd

EPOCHS = 4


def freezer_of(model: nn.Module, **options: Any) -> Freezer:
    told: dict[str, Any] = {
        "batch_size": 20,
        "epochs": EPOCHS,
        "policy": {1: "layer1"},
        "mode": "cache",
        "views": 1,
        "ladder": "exact",
        **options,
    }
    return Freezer(model, images(60, PLAIN), optimizer=sgd(model), **told)


def optimizer_of(freezer: Freezer) -> Any:
    return freezer.optimizer


def train(freezer: Freezer, epoch: int, between: Any = lambda step: None) -> list[float]:
    losses = []
    freezer.model.train()
    for step, (inputs, targets) in enumerate(freezer.batches(epoch)):
        loss = F.cross_entropy(freezer(inputs), targets)
        optimizer_of(freezer).zero_grad()
        loss.backward()
        optimizer_of(freezer).step()
        losses.append(loss.item())
        between(step)
    return losses


def events(freezer: Freezer, kind: str) -> list[dict[str, Any]]:
    return [record for record in freezer.history if record["event"] == kind]


def scaled(model: Any) -> None:
    with torch.no_grad():
        model.stem[0].weight.mul_(1.5)


# -- a front that changes


@pytest.mark.parametrize("mode", ["cache", "recompute"])
@pytest.mark.parametrize("when", ["between epochs", "within one"])
def test_a_changed_front_is_built_anew(when: str, mode: str) -> None:
    """What is fed afterwards is what the front as it is now gives."""
    model: Any = resnet()
    with freezer_of(model, mode=mode) as freezer:
        train(freezer, 0)
        freezer.end_epoch()
        train(freezer, 1, lambda step: scaled(model) if step == 0 and when == "within one" else None)
        freezer.end_epoch()
        if when == "between epochs":
            scaled(model)
        division = freezer._front.division
        assert division is not None
        for epoch in (2, 3):
            fed = torch.cat([inputs for inputs, _ in freezer.batches(epoch)])
            now = division.prefix(torch.stack([image for image, _ in images(60, PLAIN)]))
            torch.testing.assert_close(*(found.flatten(1).sum(1).sort().values for found in (fed, now)))
        (record,) = events(freezer, "changed")
        assert record["names"] == ["stem.0.weight"]
        assert record["step"] == (0 if when == "between epochs" else 1)
        assert freezer.source == mode


def test_a_changed_front_can_be_an_error() -> None:
    model: Any = resnet()
    with freezer_of(model, on_changed_front="error") as freezer:
        train(freezer, 0)
        freezer.end_epoch()
        scaled(model)
        with pytest.raises(
            FrontChangedError, match=r"'stem.0.weight' in front of cut 'layer1' changed behind its freeze"
        ):
            next(iter(freezer.batches(1)))


def test_weights_swapped_in_and_out_are_no_change() -> None:
    model: Any = resnet()
    with freezer_of(model, on_changed_front="error") as freezer:
        for epoch in range(EPOCHS):
            train(freezer, epoch)
            mine = copy.deepcopy(model.state_dict())
            model.load_state_dict({key: torch.zeros_like(tensor) for key, tensor in mine.items()})
            model.load_state_dict(mine)
            freezer.end_epoch()
        assert len(events(freezer, "freeze")) == 1


def test_values_are_looked_at_only_where_something_was_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = resnet()
    with freezer_of(model) as freezer:
        train(freezer, 0)
        freezer.end_epoch()
        guard, _ = freezer._epochs._depth._watching
        assert isinstance(guard, FrontGuard)
        monkeypatch.setattr(guard, "_hash", lambda: pytest.fail("nothing was touched"))
        assert guard.changed() == ()


def other_eps(model: Any) -> None:
    model.stem[1].eps = 0.5


def own_forward(model: Any) -> None:
    layer = model.layer1[0]
    layer.forward = lambda x: type(layer).forward(layer, x) * 2


def hooked(model: Any) -> None:
    model.stem.register_forward_hook(lambda module, args, output: output * 2)


def replaced(model: Any) -> None:
    torch.manual_seed(3)
    model.stem[0] = nn.Conv2d(1, model.stem[0].out_channels, 3, padding=1, bias=False)


def another_class(model: Any) -> None:
    own = type(model.layer1[0])
    model.layer1[0].__class__ = type("Twice", (own,), {"forward": lambda self, x: own.forward(self, x) * 2})


LAYERS = {
    "an attribute": (other_eps, "stem.1.eps"),
    "forward": (own_forward, "layer1.0.forward"),
    "a hook": (hooked, "stem (hook)"),
    "a layer": (replaced, "stem.0"),
    "the class": (another_class, "layer1.0.class"),
}


@grid(what=LAYERS.keys(), mode=["cache", "recompute"], when=["between epochs", "within one"])
def test_layers_that_are_changed_in_front_are_followed(what: str, mode: str, when: str) -> None:
    """What is fed afterwards leads to the outputs of the model as it is now, and nothing in front trains."""
    change, name = LAYERS[what]
    model: Any = resnet()
    whole = torch.stack([image for image, _ in images(60, PLAIN)])
    with freezer_of(model, mode=mode) as freezer:
        train(freezer, 0)
        freezer.end_epoch()
        train(freezer, 1, lambda step: change(model) if step == 0 and when == "within one" else None)
        freezer.end_epoch()
        if when == "between epochs":
            change(model)
        for epoch in (2, 3):
            model.eval()
            with torch.no_grad():
                got = torch.cat([freezer(inputs) for inputs, _ in freezer.batches(epoch)])
                torch.testing.assert_close(*(out.sort(0).values for out in (got, model(whole))))
            freezer.end_epoch()
        (record,) = events(freezer, "changed")
        assert name in record["names"]
        assert record["step"] == (0 if when == "between epochs" else 1)
        assert freezer.source == mode
        assert not any(p.requires_grad for part in (model.stem, model.layer1) for p in part.parameters())


@pytest.mark.parametrize("what", LAYERS)
def test_layers_that_are_changed_in_front_can_be_an_error(what: str) -> None:
    change, name = LAYERS[what]
    model: Any = resnet()
    with freezer_of(model, on_changed_front="error", policy={0: "layer1"}) as freezer:
        train(freezer, 0)
        freezer.end_epoch()
        change(model)
        with pytest.raises(FrontChangedError, match=rf"'{re.escape(name)}'.* in front of cut 'layer1' changed behind"):
            next(iter(freezer.batches(1)))


class Telling(nn.Module):
    """Keeps what a user might look at, reads what a user may set, and stands in front."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.calls, self.last, self.begun = 0, None, False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        self.calls, self.last, self.begun = self.calls + 1, x.mean(), True
        COUNTED["calls"] += 1
        return x * COUNTED["scale"]


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.head = Telling(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
        self.gain, self.temperature, self.outputs = 1.0, 1.0, None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.outputs = self.head(self.front(x * self.gain)) / self.temperature
        return self.outputs


COUNTED = {"calls": 0, "scale": 1.0}


@pytest.mark.parametrize("what", ["gain", "scale"])
def test_of_what_acts_on_both_sides_or_lies_elsewhere_only_what_changes_features_counts(what: str) -> None:
    model: Any = Whole()
    COUNTED.update(calls=0, scale=1.0)
    with freezer_of(model, policy={0: "front"}, on_changed_front="error") as freezer:
        for epoch in range(3):
            train(freezer, epoch)
            model.eval()(torch.rand(2, 1, 28, 28))
            freezer.end_epoch()
            model.temperature = 2.0 + epoch
        if what == "gain":
            model.gain = 2.0
        else:
            COUNTED["scale"] = 2.0
        with pytest.raises(FrontChangedError, match="'gain'" if what == "gain" else r"COUNTED \(code\)'|\(code\)'"):
            next(iter(freezer.batches(3)))


# -- thawing


def test_unfreezing_by_hand_is_a_thaw() -> None:
    model: Any = resnet()
    with freezer_of(model) as freezer:
        train(freezer, 0)
        freezer.end_epoch()
        train(freezer, 1, lambda step: model.layer1.requires_grad_(True) if step == 0 else None)
        assert freezer.depth == 0
        assert freezer.source == "images"
        assert all(p.requires_grad for p in model.layer1.parameters())
        assert not model.stem[0].weight.requires_grad
        held = [p for group in optimizer_of(freezer).param_groups for p in group["params"]]
        assert len({id(p) for p in held}) == len(held) == len(list(model.parameters()))
        (record,) = events(freezer, "thaw")
        assert (record["epoch"], record["step"], record["policy"]) == (1, 1, "by hand")
        before = model.layer1[0].conv1.weight.clone()
        freezer.end_epoch()
        train(freezer, 2)
        assert not torch.equal(model.layer1[0].conv1.weight, before)


def test_a_group_that_the_user_adds_again_is_not_doubled() -> None:
    model: Any = resnet()
    with freezer_of(model) as freezer:
        train(freezer, 0)
        freezer.end_epoch()
        model.layer1.requires_grad_(True)
        optimizer_of(freezer).add_param_group({"params": list(model.layer1.parameters()), "lr": 1e-4})
        train(freezer, 1)
        held = [id(p) for group in optimizer_of(freezer).param_groups for p in group["params"]]
        assert len(set(held)) == len(held) == len(list(model.parameters()))


def test_thaw_holds_until_the_policy_asks_for_something_else() -> None:
    model: Any = resnet()
    with freezer_of(model, policy={1: "layer1", 3: "layer2"}) as freezer:
        depths = []
        for epoch in range(EPOCHS):
            train(freezer, epoch)
            depths.append(freezer.depth)
            if epoch == 1:
                freezer.thaw()
                freezer.thaw()
            freezer.end_epoch()
    layer1, layer2 = (next(c.index + 1 for c in freezer.cuts if c.label == name) for name in ("layer1", "layer2"))
    assert depths == [0, layer1, 0, layer2]


def test_a_thaw_by_hand_survives_a_resume() -> None:
    whole: Any = resnet()
    with freezer_of(whole) as freezer:
        for epoch in range(EPOCHS):
            if epoch == 2:
                freezer.thaw()
                state = copy.deepcopy((whole.state_dict(), freezer.state_dict(), optimizer_of(freezer).state_dict()))
            train(freezer, epoch)
            freezer.end_epoch()
    other: Any = resnet()
    with freezer_of(other) as freezer:
        other.load_state_dict(state[0])
        freezer.load_state_dict(state[1])
        optimizer_of(freezer).load_state_dict(state[2])
        for epoch in range(2, EPOCHS):
            train(freezer, epoch)
            freezer.end_epoch()
        assert freezer.depth == 0
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), other.state_dict().values(), strict=True))


# -- the end


@pytest.mark.parametrize("evaluated", [False, True])
def test_close_gives_the_model_back(evaluated: bool) -> None:
    model: Any = resnet()
    before = dict(model.__dict__), {name: dict(m.__dict__) for name, m in model.named_modules()}
    with freezer_of(model) as freezer:
        for epoch in range(2):
            train(freezer, epoch)
            freezer.end_epoch()
        assert not model.stem[0].weight.requires_grad
        if evaluated:
            model.eval()
    assert all(p.requires_grad for p in model.parameters())
    assert {name: set(m.__dict__) for name, m in model.named_modules()} == {n: set(d) for n, d in before[1].items()}
    assert all(module.training == (not evaluated) for module in model.modules())
    model.train()
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("how", ["constructor", "close"])
def test_a_front_can_stay_frozen(how: str) -> None:
    model: Any = resnet()
    freezer = freezer_of(model, keep_frozen=how == "constructor")
    for epoch in range(2):
        train(freezer, epoch)
        freezer.end_epoch()
    freezer.close(*[True] * (how == "close"))
    model.train()
    assert not model.stem[0].weight.requires_grad
    assert not model.stem[1].training


@pytest.mark.parametrize("keep", [True, False])
def test_a_second_freezer_goes_on(keep: bool, tmp_path: Path) -> None:
    model: Any = resnet()
    for number in range(2):
        with freezer_of(model, keep_frozen=keep, cache_dir=tmp_path / str(number)) as freezer:
            for epoch in range(2):
                train(freezer, epoch)
                freezer.end_epoch()
            assert freezer.source == "cache"


# -- frozen as the user has it


@pytest.mark.parametrize("mode", ["cache", "recompute"])
def test_what_wants_no_gradient_is_frozen_from_the_start(mode: str) -> None:
    model: Any = resnet()
    for part in (model.stem, model.layer1):
        part.requires_grad_(False)
    with freezer_of(model, policy="frozen", mode=mode) as freezer:
        train(freezer, 0)
        assert freezer.cut is not None
        assert freezer.cut.label == "layer1"
        model.layer2.requires_grad_(False)
        freezer.end_epoch()
        train(freezer, 1)
        assert freezer.cut.label == "layer2"
        freezer.end_epoch()
        model.layer1.requires_grad_(True)
        train(freezer, 2)
        assert freezer.depth == 0
    assert not model.stem[0].weight.requires_grad


def test_adapters_end_the_front() -> None:
    model: Any = resnet()
    model.requires_grad_(False)
    model.layer2[0].requires_grad_(True)
    model.fc.requires_grad_(True)
    with freezer_of(model, policy="frozen") as freezer:
        train(freezer, 0)
        assert freezer.cut is not None
        assert freezer.cut.label == "layer1"


def test_nothing_frozen_is_told_with_the_cuts() -> None:
    with pytest.raises(PolicyError, match=r'policy "frozen" takes over .* layer1 \(\d+%\), layer2 \(\d+%\)'):
        freezer_of(resnet(), policy="frozen").decide()
    with pytest.raises(Exception, match="on_changed_front"):
        freezer_of(resnet(), on_changed_front="ignore")


def in_eval(model: Any) -> None:
    model.eval()


def front_in_eval(model: Any) -> None:
    model.train()
    model.stem.eval()


@pytest.mark.parametrize(
    ("how", "kept"), [(in_eval, True), (front_in_eval, True), (nn.Module.train, False)], ids=["all", "front", "none"]
)
def test_batch_norms_that_were_left_in_eval_keep_their_statistics(how: Any, kept: bool) -> None:
    """As they are before the Freezer, whether or not anything trains before the freeze."""
    model: Any = resnet()
    model.stem[1].running_mean.fill_(0.123)
    how(model)
    with freezer_of(model, policy={0: "layer1"}, settle="statistics") as freezer:
        next(iter(freezer.batches(0)))
    assert bool((model.stem[1].running_mean == 0.123).all()) == kept


def test_writes_that_torch_does_not_count_show_before_the_next_epoch() -> None:
    model: Any = resnet()
    with freezer_of(model) as freezer:
        train(freezer, 0)
        freezer.end_epoch()
        model.stem[0].weight.data.mul_(1.5)
        train(freezer, 1)
        (record,) = events(freezer, "changed")
        assert record["names"] == ["stem.0.weight"]


@pytest.mark.parametrize("how", ["load_state_dict", "data"])
def test_evaluation_follows_a_changed_front(how: str) -> None:
    model: Any = resnet()
    with freezer_of(model) as freezer:
        evaluation = freezer.evaluation(images(30, PLAIN), codec="exact")
        for epoch in range(2):
            train(freezer, epoch)
            freezer.end_epoch()
            model.eval()
            with torch.no_grad():
                for inputs, _ in evaluation:
                    freezer(inputs)
        better = {name: tensor * 1.25 for name, tensor in model.state_dict().items()}
        if how == "data":
            for name, parameter in model.named_parameters():
                parameter.data.copy_(better[name])
        else:
            model.load_state_dict(better)
        for _ in range(2):
            with torch.no_grad():
                got = torch.cat([freezer(inputs) for inputs, _ in evaluation])
                torch.testing.assert_close(got, model(torch.stack([image for image, _ in images(30, PLAIN)])))


def test_where_all_is_frozen_nothing_is_left_to_train() -> None:
    model: Any = resnet()
    model.requires_grad_(False)
    with pytest.raises(PolicyError, match="nothing would train"):
        freezer_of(model, policy="frozen").decide()
