"""Hooks of the user's keep what the model's own calls give: looking and measuring leave no trace in them."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hoarfrost import divide, examine_sensitivity, find_cut, find_cuts, plan, sensitivity
from hoarfrost.augment import HorizontalFlip
from hoarfrost.cuts import hooks_apart
from shared.freezers import freezer_of, run_epoch
from shared.images import PLAIN, RANDOM, images
from shared.nets import resnet

NAMES = ("", "stem", "layer2", "fc")
COLLECTED: list[str] = []
COUNTED = 0


def into_global(*_: Any) -> None:
    global COUNTED
    COUNTED += 1
    COLLECTED.append("called")


class Watcher:
    """Keeps what is kept in loops of people."""

    def __init__(self) -> None:
        self.calls, self.last, self.by_name = 0, None, defaultdict[str, list[int]](list)
        self.inner, self.sums = SimpleNamespace(calls=0), torch.zeros(3)
        self.recent: deque[Any] = deque(maxlen=2)
        self.drawn = np.random.default_rng(0)

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.calls += 1
        self.note(output)

    def note(self, output: Any) -> None:
        self.last = output
        self.by_name["x"].append(1)
        self.inner.calls += 1
        self.sums += 1
        self.recent.append(output)
        self.drawn.random()

    def before(self, module: nn.Module, inputs: Any) -> None:
        self(module, inputs, inputs)

    def kept(self) -> Any:
        drawn = self.drawn.bit_generator.state["state"]["state"]
        return self.calls, self.last, dict(self.by_name), self.inner.calls, self.sums.tolist(), list(self.recent), drawn


def hooked(model: nn.Module) -> Callable[[], Any]:
    """Hooks of many kinds, in front, behind and on the model; returns what tells all that they keep."""
    watchers, fired, counted = [Watcher() for _ in range(3)], list[str](), 0

    def count(*_: Any) -> None:
        nonlocal counted
        counted += 1

    for name in NAMES:
        module = model.get_submodule(name)
        module.register_forward_hook(lambda *_, name=name: fired.append(name))
        module.register_forward_hook(count, always_call=True)
        module.register_forward_hook(torch.no_grad()(into_global))
        module.register_forward_hook(watchers[0])
        module.register_forward_hook(watchers[1].__call__)
        module.register_forward_pre_hook(watchers[2].before)
    return lambda: repr(([w.kept() for w in watchers], fired, counted, COLLECTED, COUNTED))


def once_removed(model: nn.Module) -> list[Any]:
    seen: list[Any] = []

    def once(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.append(output)
        handle.remove()

    handle = model.get_submodule("layer2").register_forward_hook(once)
    return seen


LOOKS: dict[str, Callable[[nn.Module, Path], Any]] = {
    "find_cuts": lambda model, _: find_cuts(model, torch.rand(4, 1, 28, 28)),
    "Freezer": lambda model, _: freezer_of(model).close(),
    "plan": lambda model, _: plan(model, images(60), batch_size=20, epochs=3, cuts=["layer1"], probe=20),
    "examine_sensitivity": lambda model, _: examine_sensitivity(model, images(60, RANDOM), cuts=["layer1"], samples=20),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
def test_looking_leaves_nothing_in_what_hooks_keep(look: Callable[..., Any], tmp_path: Path) -> None:
    model = resnet()
    kept = hooked(model)
    seen = once_removed(model)
    before = kept()
    look(model, tmp_path)
    assert (kept(), seen) == (before, [])
    model(torch.rand(2, 1, 28, 28))
    assert kept() != before
    assert len(seen) == 1


def test_dividing_and_sensitivity_leave_nothing_in_what_hooks_keep() -> None:
    model, x = resnet(), torch.rand(8, 1, 28, 28)
    kept = hooked(model)
    before = kept()
    prefix, suffix = divide(model, find_cut(find_cuts(model, x), "layer1"), x)
    sensitivity(prefix, x, HorizontalFlip())
    assert kept() == before
    suffix(prefix(x))
    assert kept() != before


@pytest.mark.parametrize(
    "told", [{"mode": "cache"}, {"mode": "recompute"}, {"mode": "cache", "build_from": "features"}]
)
def test_at_freezes_and_behind_them_hooks_see_each_sample_as_often_as_it_is_computed(told: dict[str, Any]) -> None:
    """In front once for each build or epoch, behind once an epoch."""
    model, seen = resnet(), dict.fromkeys(("stem", "layer2", "fc"), 0)

    def count(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _, inputs: seen.update({name: seen[name] + len(inputs[0])})

    for name in seen:
        model.get_submodule(name).register_forward_pre_hook(count(name))
    with freezer_of(model, images(150, PLAIN), policy={0: "layer1", 2: "layer2"}, **told) as freezer:
        for epoch in range(3):
            for inputs, _ in freezer.batches(epoch):
                freezer(inputs)
            freezer.step_flops()
            freezer.end_epoch()
        assert freezer.history
    builds = 3 if told["mode"] == "recompute" else 1 if "build_from" in told else 2
    assert seen == {"stem": builds * 150, "layer2": 450, "fc": 450}


def test_a_policy_that_probes_leaves_nothing_in_what_hooks_keep() -> None:
    model, seen = resnet(), [0]
    model.get_submodule("fc").register_forward_hook(lambda *_: seen.append(1))
    with freezer_of(model, policy="cka") as freezer:
        steps = sum(len(run_epoch(freezer, epoch)) for epoch in range(2))
    assert steps
    assert seen == [0]


def test_a_hook_that_changes_what_passes_does_so_on_copies_too() -> None:
    """As often as it was called, so that it begins where the user's own stands."""
    shift = Shift()
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].register_forward_hook(shift)
    x = torch.rand(3, 4)
    plain = model[0].forward(x)
    assert torch.equal(model[0](x), plain + 1)
    with hooks_apart(model):
        assert torch.equal(model[0](x), plain + 2)
        assert torch.equal(model[0](x), plain + 3)
    assert torch.equal(model[0](x), plain + 2)


class Shift:
    def __init__(self) -> None:
        self.by = torch.zeros(())

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        self.by += 1
        return output + self.by
