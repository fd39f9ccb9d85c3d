"""Behind a freeze a loop does to its model what it did before: it sets, hooks, replaces and reads its modules."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hoarfrost import Freezer
from hoarfrost.errors import FrontChangedError
from shared.freezers import freezer_of, run_epoch
from shared.images import PLAIN, RANDOM, images
from shared.nets import resnet
from shared.runs import assert_same_run, train


class Head(nn.Module):
    """Dropout, a temperature, and a loss of its own that it leaves behind."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.fc, self.temperature = nn.Dropout(0.5), nn.Linear(8, 10), 1.0
        self.aux: Any = None
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.aux = self.fc.weight.square().mean()
        return self.fc(self.drop(x)) / self.temperature


def network() -> nn.Module:
    model = resnet()
    torch.manual_seed(1)
    model.fc = Head()
    return model


def head(freezer: Freezer) -> Head:
    found = freezer.model.fc
    assert isinstance(found, Head)
    return found


def set_attributes(freezer: Freezer, epoch: int) -> None:
    head(freezer).temperature = 1.0 + epoch
    head(freezer).drop.p = 0.5 - 0.2 * epoch


def replace_the_head(freezer: Freezer, epoch: int) -> None:
    if epoch == 1:
        torch.manual_seed(5)
        freezer.model.fc = Head()
        assert freezer.optimizer is not None
        freezer.optimizer.add_param_group({"params": [*freezer.model.fc.parameters()]})  # type: ignore[attr-defined]


def hook(freezer: Freezer, epoch: int) -> None:
    if epoch == 1:
        freezer.model.get_submodule("layer3").register_forward_hook(lambda _, __, output: output * 1.5)


def leave_statistics(freezer: Freezer, epoch: int) -> None:
    """The loop's own `train` keeps some batch norms in eval from then on."""
    layer = freezer.model.get_submodule("layer2")
    layer.train = lambda mode=True: type(layer).train(layer, False)  # type: ignore[method-assign, assignment]


CHANGES: dict[str, Callable[[Freezer, int], None]] = {
    "attributes": set_attributes,
    "another head": replace_the_head,
    "a hook": hook,
    "modes": leave_statistics,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_cached_run_is_the_recomputing_run_whatever_is_done_behind_the_cut(
    change: Callable[[Freezer, int], None],
) -> None:
    options: dict[str, Any] = {"policy": {1: "layer1"}, "epochs": 4, "after_epoch": change}
    runs = [train(network(), images(150, PLAIN), mode=mode, **options) for mode in ("cache", "recompute")]
    assert_same_run(*runs)
    undisturbed = train(network(), images(150, PLAIN), policy={1: "layer1"}, epochs=4)
    assert runs[0].losses != undisturbed.losses


def test_a_loss_that_the_forward_leaves_behind_trains() -> None:
    with freezer_of(network(), policy={0: "layer1"}) as freezer:
        inputs, _ = next(freezer.batches(0))
        head(freezer).aux = None
        freezer(inputs)
        head(freezer).aux.backward()
        assert head(freezer).fc.weight.grad is not None


@pytest.mark.parametrize("mode", ["cache", "recompute"])
def test_hooks_are_called_once_a_step(mode: str) -> None:
    model, fired = network(), Counter[str]()
    with freezer_of(model, policy={0: "layer1"}, mode=mode) as freezer:
        run_epoch(freezer, 0)
        for name in ("", "layer3", "fc", "fc.drop"):
            model.get_submodule(name).register_forward_hook(lambda *_, name=name: fired.update([name]))
        steps = [freezer(inputs) for inputs, _ in freezer.batches(1)]
    assert fired == dict.fromkeys(("", "layer3", "fc", "fc.drop"), len(steps))


def test_what_a_forward_counts_counts_steps_and_no_freeze() -> None:
    model = network()
    with freezer_of(model, policy={1: "layer1", 2: "layer2"}, ladder="auto", views=2, mode="cache") as freezer:
        for epoch in range(3):
            steps = [freezer(inputs) for inputs, _ in freezer.batches(epoch)]
            freezer.end_epoch()
            freezer.step_flops()
            assert head(freezer).calls == len(steps) * (epoch + 1)


def test_a_hook_in_front_is_said_and_a_layer_there_refused() -> None:
    model = network()
    with freezer_of(model, images(150, RANDOM), policy={0: "layer1"}) as freezer:
        inputs, _ = next(freezer.batches(0))
        freezer(inputs)
        handle = model.get_submodule("stem").register_forward_hook(lambda *_: None)
        with pytest.warns(UserWarning, match="a hook was registered on 'stem', in front of the cut 'layer1'"):
            freezer(inputs)
        handle.remove()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            freezer(inputs)
        model.layer1 = nn.Identity()
        with pytest.raises(FrontChangedError, match="'layer1' is no longer what it was"):
            freezer(inputs)
        freezer.thaw()
        model(torch.randn(2, 1, 28, 28))


def test_a_closed_freezer_leaves_nothing_on_the_model() -> None:
    model = network()
    before = [set(vars(module)) for module in model.modules()]
    with freezer_of(model, policy={0: "layer1"}) as freezer:
        run_epoch(freezer, 0)
    assert [set(vars(module)) for module in model.modules()] == before
