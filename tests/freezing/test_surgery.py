from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hoarfrost.cuts import Prefix, divide, find_cut, find_cuts
from hoarfrost.errors import ArgumentError
from hoarfrost.freezing.surgery import freeze, thaw


def network() -> nn.Sequential:
    torch.manual_seed(0)
    block = lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5))  # noqa: E731
    return nn.Sequential(block(), block(), block(), nn.Linear(6, 3))


def front(model: nn.Module, label: str) -> Prefix:
    x = torch.randn(4, 6)
    return divide(model, find_cut(find_cuts(model, x), label), x)[0]


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(3)
    model(torch.randn(8, 6)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd momentum": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.1),
}


def snapshot(model: nn.Module, prefix: Prefix, optimizer: torch.optim.Optimizer) -> tuple[Any, ...]:
    return (
        [parameter.requires_grad for parameter in model.parameters()],
        [module.training for module in model.modules()],
        [module.training for module in prefix.modules()],
        [[id(p) for p in group["params"]] for group in optimizer.param_groups],
        prefix.frozen,
        ["train" in module.__dict__ for module in model.modules()],
    )


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("labels", [["0.2"], ["1.2"], ["0.2", "1.2"], ["1.2", "0.2"]], ids=str)
def test_thaw_is_the_inverse_of_freeze(make: Callable[[Any], torch.optim.Optimizer], labels: list[str]) -> None:
    model = network()
    model[0][0].bias.requires_grad_(False)
    model[1][1].eval()
    optimizer = make(
        [{"params": list(model[1].parameters()) + list(model[0].parameters())}, {"params": model[3].parameters()}]
    )
    prefixes = [front(model, label) for label in labels]
    step(model, optimizer)
    states, before = [], []
    for prefix in prefixes:
        before.append([snapshot(model, p, optimizer) for p in prefixes])
        states.append(freeze(model, prefix, optimizer))
    for frozen, was in zip(reversed(states), reversed(before), strict=True):
        thaw(frozen)
        assert [snapshot(model, p, optimizer) for p in prefixes] == was


def test_a_frozen_front_stays_in_eval_under_train() -> None:
    model = network()
    frozen = freeze(model, front(model, "0.2"))
    model.train()
    assert [name for name in frozen.module_names if model.get_submodule(name).training] == []
    assert model.training
    assert model[2][3].training


def test_batch_norm_statistics_stand_still() -> None:
    model = network()
    prefix = front(model, "0.2")
    freeze(model, prefix)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    prefix.train()
    model(torch.randn(8, 6))
    prefix(torch.randn(8, 6))
    moved = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved == {name for name in before if not name.startswith("0.")}


def test_dropout_in_the_front_draws_nothing() -> None:
    model = network()
    prefix = front(model, "1.2")
    freeze(model, prefix)
    model.train()
    prefix.train()
    x = torch.randn(4, 6)
    assert torch.equal(prefix(x), prefix(x))
    assert torch.equal(prefix(x), model[1][2](model[1][1](model[1][0](model[0](x)))))


def test_a_frozen_prefix_records_no_gradients() -> None:
    model = network()
    prefix = front(model, "0.2")
    x = torch.randn(4, 6)
    assert prefix(x).requires_grad
    frozen = freeze(model, prefix)
    assert not prefix(x.requires_grad_()).requires_grad
    thaw(frozen)
    assert prefix(x).requires_grad


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_optimizer_forgets_the_front_and_keeps_the_rest(make: Callable[[Any], torch.optim.Optimizer]) -> None:
    model = network()
    groups = [{"params": model[0].parameters()}, {"params": [*model[1].parameters(), *model[3].parameters()]}]
    optimizer = make(groups)
    step(model, optimizer)
    lists = [group["params"] for group in optimizer.param_groups]
    state = {p: copy.deepcopy(optimizer.state[p]) for p in model[3].parameters()}
    freeze(model, front(model, "0.2"), optimizer)
    assert [len(group["params"]) for group in optimizer.param_groups] == [0, 6]
    assert all(a is b for a, b in zip(lists, (g["params"] for g in optimizer.param_groups), strict=True))
    assert not any(p in optimizer.state for p in model[0].parameters())
    for parameter, was in state.items():
        for key, value in was.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(optimizer.state[parameter][key]))


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_goes_on_behind_and_stops_in_front(make: Callable[[Any], torch.optim.Optimizer]) -> None:
    model = network()
    optimizer = make(model.parameters())
    step(model, optimizer)
    freeze(model, front(model, "0.2"), optimizer)
    before = [parameter.clone() for parameter in model.parameters()]
    step(model, optimizer)
    same = [torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    in_front = len(list(model[0].parameters()))
    assert same == [True] * in_front + [False] * (len(same) - in_front)


def test_gradients_of_the_front_are_dropped() -> None:
    model = network()
    model(torch.randn(4, 6)).sum().backward()
    freeze(model, front(model, "0.2"))
    assert all(p.grad is None and not p.requires_grad for p in model[0].parameters())
    assert all(p.grad is not None for p in model[3].parameters())


def test_what_needed_no_gradient_still_needs_none_after_a_thaw() -> None:
    model = network()
    model[0][0].weight.requires_grad_(False)
    frozen = freeze(model, front(model, "0.2"))
    assert "0.0.weight" not in frozen.parameter_names
    thaw(frozen)
    assert not model[0][0].weight.requires_grad
    assert model[0][0].bias.requires_grad


def test_parameters_of_both_sides_are_frozen_too() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))

    model = Tied()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    frozen = freeze(model, front(model, "a"), optimizer)
    assert frozen.shared_parameters == ("a.weight", "b.weight")
    assert not model.a.weight.requires_grad
    assert model.b.bias.requires_grad
    thaw(frozen)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_of_a_frozen_model_are_inert_by_themselves(how: str) -> None:
    model = network()
    frozen = freeze(model, front(model, "0.2"))
    twin = copy.deepcopy(model) if how == "deepcopy" else pickle.loads(pickle.dumps(model))
    thaw(frozen)
    model.eval()
    twin.train()
    assert not twin[0][1].training
    assert twin[2][1].training
    assert not model[2][1].training


def test_a_frozen_model_keeps_its_state_dict() -> None:
    model = network()
    names = list(model.state_dict())
    freeze(model, front(model, "0.2"))
    assert list(model.state_dict()) == names


def test_a_freeze_beneath_another_waits_for_it() -> None:
    model = network()
    first = freeze(model, front(model, "0.2"))
    second = freeze(model, front(model, "1.2"))
    with pytest.raises(ArgumentError, match=r"the freeze up to '1\.2' lies on top of this one"):
        thaw(first)
    thaw(second)
    thaw(first)
    with pytest.raises(ArgumentError, match="no longer in force"):
        thaw(first)


def test_a_wrapped_optimizer_will_do() -> None:
    class Wrapped:
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.inner = inner

        @property
        def param_groups(self) -> list[dict[str, Any]]:
            return self.inner.param_groups

        @property
        def state(self) -> Any:
            return self.inner.state

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    freeze(model, front(model, "0.2"), Wrapped(optimizer))
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.parameters())) - 4


@pytest.mark.parametrize("optimizer", ["sgd", torch.nn.Linear(1, 1), [torch.zeros(1)]], ids=["text", "module", "list"])
def test_a_wrong_optimizer(optimizer: Any) -> None:
    model = network()
    prefix = front(model, "0.2")
    with pytest.raises(ArgumentError, match="an optimizer with param_groups and state is needed, not"):
        freeze(model, prefix, optimizer)
    assert not prefix.frozen


def test_a_prefix_of_another_model() -> None:
    prefix = front(network(), "0.2")
    with pytest.raises(ArgumentError, match="divided from another Sequential"):
        freeze(network(), prefix)


def test_something_else_than_a_prefix() -> None:
    model = network()
    with pytest.raises(ArgumentError, match=r"a Prefix from hoarfrost.divide is needed, not Sequential"):
        freeze(model, model)  # type: ignore[arg-type]


def test_names_stay_with_their_parameters() -> None:
    """Of `Optimizer(model.named_parameters())`, through a freeze and a thaw."""
    model = network()
    prefix = front(model, "1.2")
    optimizer = torch.optim.AdamW(
        [
            {"params": [(n, p) for n, p in model.named_parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [(n, p) for n, p in model.named_parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
    )
    names = {id(p): name for name, p in model.named_parameters()}
    before = copy.deepcopy([group["param_names"] for group in optimizer.param_groups])

    def told() -> list[list[str]]:
        assert all([names[id(p)] for p in g["params"]] == g["param_names"] for g in optimizer.param_groups)
        return [list(group["param_names"]) for group in optimizer.param_groups]

    frozen = freeze(model, prefix, optimizer)
    assert sum(map(len, told())) < sum(map(len, before))
    thaw(frozen)
    assert told() == before
