"""Behind the cut are the model's own modules: whatever is done to them after the division holds, as without one."""

from __future__ import annotations

import copy
import inspect
import io
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from cut_law import assert_law
from torch import Tensor, nn
from torch.nn.utils import weight_norm

from hoarfrost.cuts import Prefix, Suffix, divide, find_cut, find_cuts
from hoarfrost.errors import FrontChangedError, InvalidCutError

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.fc(x).tanh())


class Net(nn.Module):
    """Four blocks in one list; what its forward leaves behind, in front of a cut and behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.blocks = nn.Sequential(*[Block() for _ in range(4)])
        self.head = nn.Linear(4, 3)
        self.temperature = 1.0
        self.stemmed: Any = None
        self.aux: Any = None
        self.calls = 0
        self.trail: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.stem(x)
        self.stemmed = x
        self.trail = [x]
        x = self.blocks(x)
        self.aux = x.square().mean()
        self.trail.append(x)
        return self.head(x) / self.temperature


def parts(model: nn.Module, label: str = "blocks.1", x: Tensor = X) -> tuple[Prefix, Suffix, Tensor]:
    prefix, suffix = divide(model, find_cut(find_cuts(model, x), label), x)
    return prefix, suffix, prefix.eval()(x).detach()


def net() -> tuple[Net, Suffix, Tensor]:
    torch.manual_seed(0)
    model = Net().eval()
    return model, *parts(model)[1:]


BEHIND = ["", "blocks", "blocks.2", "blocks.2.fc", "blocks.3.drop", "head"]
FRONT = ["stem", "blocks.0", "blocks.0.fc", "blocks.1", "blocks.1.drop"]


# -- hooks


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward"])
def test_hooks_that_come_later_run_as_often_as_by_the_model_and_on_its_own_modules(kind: str) -> None:
    model, suffix, features = net()
    fired: list[tuple[str, nn.Module]] = []
    handles = [
        getattr(model.get_submodule(name), f"register_{kind}_hook")(lambda m, *_, name=name: fired.append((name, m)))
        for name in BEHIND
    ]
    found = []
    for run in (lambda: model(X.clone().requires_grad_()), lambda: suffix(features.requires_grad_())):
        fired.clear()
        run().sum().backward()
        found.append(Counter(name for name, _ in fired))
        assert all(module is model.get_submodule(name) for name, module in fired)
    assert found[0] == found[1] == Counter(BEHIND)
    for handle in handles[::2]:
        handle.remove()
    fired.clear()
    suffix(features).sum().backward()
    assert Counter(name for name, _ in fired) == Counter(BEHIND[1::2])


def test_a_hook_that_was_there_and_is_removed_runs_no_more() -> None:
    model = Net().eval()
    handle = model.head.register_forward_hook(lambda _, __, output: output + 1)
    _, suffix, features = parts(model)
    assert torch.equal(suffix(features), model(X))
    handle.remove()
    assert torch.equal(suffix(features), model(X))


def test_what_a_later_hook_changes_is_changed() -> None:
    model, suffix, features = net()
    model.blocks[2].register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2,))
    model.register_forward_hook(lambda _, __, output: output - 1)
    assert torch.equal(suffix(features), model(X))


def test_a_list_that_a_later_hook_of_the_models_fills() -> None:
    model, suffix, features = net()
    model.captured = []
    model.blocks[3].register_forward_hook(lambda _, __, output: model.captured.append(output))
    suffix(features)
    assert len(model.captured) == 1


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(4, 4), Block(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.block(self.stem(x))))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hook_on_a_block_of_both_sides_runs_for_the_calls_behind(when: str) -> None:
    model, fired = Twice().eval(), Counter[str]()

    def register() -> None:
        model.block.register_forward_pre_hook(lambda *_: fired.update(["before"]))
        model.block.register_forward_hook(lambda _, __, output: fired.update(["after"]) or output * 2)

    if when == "before":
        register()
    _, suffix, features = parts(model, "block")
    if when == "after":
        register()
        features = model.block(model.stem(X)).detach()
    fired.clear()
    got = suffix(features)
    assert fired == {"before": 1, "after": 1}
    assert torch.equal(got, model(X))


# -- attributes and modes


def test_attributes_that_are_set_later() -> None:
    model, suffix, features = net()
    model.temperature = 2.0
    assert torch.equal(suffix(features), model(X))
    model.train()
    for block in model.blocks:
        block.drop.p = 0.0
    assert torch.equal(suffix(features), suffix(features))
    model.head.forward = lambda x: x[:, :3]
    assert torch.equal(suffix(features), model.blocks[3](model.blocks[2](features))[:, :3] / 2)


def test_modes_are_those_of_the_modules() -> None:
    model, suffix, features = net()
    model.train()
    assert suffix.training
    assert not torch.equal(suffix(features), suffix(features))
    for index in (2, 3):
        model.blocks[index].drop.eval()
    assert torch.equal(suffix(features), suffix(features))
    model.blocks[3].train()
    assert not torch.equal(suffix(features), suffix(features))
    model.eval()
    assert torch.equal(suffix(features), suffix(features))


def test_a_train_of_the_models_own_is_called() -> None:
    class Kept(Net):
        def train(self, mode: bool = True) -> Kept:
            super().train(mode)
            self.head.training = False
            return self

    model = Kept().eval()
    _, suffix, _ = parts(model)
    suffix.train()
    awake = {name for name, module in model.named_modules() if module.training}
    assert awake == {name for name, _ in suffix.named_modules()} - {"head"}


# -- what a forward leaves behind


def test_values_that_a_forward_leaves_behind() -> None:
    model, suffix, features = net()
    model.aux, calls = None, model.calls
    output = suffix(features)
    assert model.calls == calls + 1
    assert torch.equal(model.aux, features_of(model, features).square().mean())
    (output.sum() + model.aux).backward()
    assert model.blocks[2].fc.weight.grad is not None


def features_of(model: Net, features: Tensor) -> Tensor:
    return model.blocks[3](model.blocks[2](features))


def test_what_is_set_in_front_is_what_it_was() -> None:
    model, suffix, features = net()
    del model.stemmed
    suffix(features)
    assert not hasattr(model, "stemmed")
    model(X)
    kept = model.stemmed
    suffix(features)
    assert model.stemmed is kept


def test_what_a_list_holds_of_the_front_has_no_values_and_says_so() -> None:
    model, suffix, features = net()
    suffix(features)
    assert torch.equal(model.trail[1], features_of(model, features))
    with pytest.raises(InvalidCutError, match=r"add reads values of a tensor \[5, 4\] from 'stem' behind the cut"):
        model.trail[0] + 1
    with torch.no_grad():
        suffix(features)
    for twin in (copy.deepcopy(model), saved(model)):
        assert torch.equal(twin(X), model(X))


# -- layers that are replaced


@pytest.mark.parametrize("name", ["head", "blocks.3", "blocks.2.fc", "blocks.2.drop"])
def test_layers_behind_the_cut_are_replaced(name: str) -> None:
    model, suffix, features = net()
    new: nn.Module = {"head": lambda: nn.Linear(4, 7), "blocks.3": Block, "blocks.2.drop": nn.Tanh}.get(
        name, lambda: nn.Linear(4, 4)
    )()
    parent, _, key = name.rpartition(".")
    setattr(model.get_submodule(parent), key, new)
    model.eval()
    assert torch.equal(suffix(features), model(X))
    held = {id(parameter) for parameter in suffix.parameters()}
    assert all(id(parameter) in held for parameter in new.parameters())
    assert suffix.state_dict().keys() == {key for key in model.state_dict() if key in dict(suffix.named_parameters())}
    suffix(features).sum().backward()
    assert all(parameter.grad is not None for parameter in new.parameters())


def test_a_layer_is_added_behind_the_cut() -> None:
    model, suffix, features = net()
    model.blocks.append(Block().eval())
    assert torch.equal(suffix(features), model(X))
    assert "blocks.4.fc.weight" in dict(suffix.named_parameters())


@pytest.mark.parametrize("name", FRONT)
def test_a_layer_that_is_replaced_in_front_is_refused_by_name(name: str) -> None:
    model, suffix, features = net()
    parent, _, key = name.rpartition(".")
    was = model.get_submodule(name)
    setattr(model.get_submodule(parent), key, copy.deepcopy(was))
    with pytest.raises(
        FrontChangedError, match=rf"'{name}' is no longer what it was .* in front of the cut 'blocks.1'"
    ):
        suffix(features)
    setattr(model.get_submodule(parent), key, was)
    assert torch.equal(suffix(features), model(X))


def test_a_container_of_both_sides_and_an_added_layer_are_refused() -> None:
    model, suffix, features = net()
    model.blocks = copy.deepcopy(model.blocks)
    with pytest.raises(FrontChangedError, match="'blocks' is no longer what it was"):
        suffix(features)
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 2)).eval()
    _, suffix, features = parts(model, "0")
    model[0].append(nn.Tanh())
    with pytest.raises(FrontChangedError, match=r"'0\.2' is no longer what it was"):
        suffix(features)


def test_a_hook_in_front_is_told_of_once_and_runs_by_the_model_alone() -> None:
    model, suffix, features = net()
    fired: list[str] = []
    for name in ("stem", "blocks.1.fc"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: fired.append(name))
    model.head.register_forward_hook(lambda *_: fired.append("head"))
    words = r"a hook was registered on 'stem', 'blocks.1.fc', in front of the cut 'blocks.1'"
    with pytest.warns(UserWarning, match=words):
        suffix(features)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        suffix(features)
    assert fired == ["head", "head"]
    model(X)
    assert fired[2:] == ["stem", "blocks.1.fc", "head"]


# -- the model between the calls


def held(model: nn.Module) -> list[dict[str, Any]]:
    return [dict(module.__dict__) for module in model.modules()]


def test_the_model_is_as_it_was_when_no_division_is_left() -> None:
    model = Net().eval()
    before = held(model)
    prefix, suffix, _ = parts(model)
    other = parts(model, "stem")
    expected = model(X)
    del prefix, suffix
    assert torch.equal(other[1](other[2]), expected)
    del other
    after = held(model)
    assert [d.keys() for d in after] == [d.keys() for d in before]
    assert all(a[key] is b[key] for a, b in zip(after, before, strict=True) for key in ("_modules", "_parameters"))


def test_several_divisions_of_one_model() -> None:
    model = Net().eval()
    found = {label: parts(model, label) for label in ("blocks.2", "stem", "blocks.0")}
    for prefix, suffix, features in (*found.values(), *reversed(found.values())):
        assert torch.equal(suffix(features), model(X))
        assert torch.equal(prefix(X), features)
    model.blocks[1] = Block().eval()
    with pytest.raises(FrontChangedError, match=r"'blocks\.1'"):
        found["blocks.2"][1](found["blocks.2"][2])
    for label in ("stem", "blocks.0"):
        assert torch.equal(found[label][1](found[label][2]), model(X))


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    twin: nn.Module = torch.load(file, weights_only=False)
    return twin


@pytest.mark.parametrize("copied", [copy.deepcopy, saved], ids=["deepcopy", "saved"])
def test_a_copy_of_a_divided_model_is_a_model(copied: Callable[[nn.Module], nn.Module]) -> None:
    model, suffix, features = net()
    model.stem.forward = nn.Linear(4, 4).forward  # one of the instance's own
    del suffix
    _, suffix, features = parts(model)
    twin = copied(model)
    assert torch.equal(twin(X), model(X))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(2)
    assert torch.equal(suffix(features), model(X))
    assert "hoarfrost" not in str([type(value) for d in held(twin) for value in d.values()])
    _, again, features = parts(twin)
    assert torch.equal(again(features), twin(X))


def test_a_copy_of_what_holds_model_and_suffix() -> None:
    model, suffix, features = net()
    model.__dict__["own"] = suffix  # under construction while its suffix is copied
    twin = copy.deepcopy(model)
    assert twin.own.whole is twin
    twin.temperature = 3.0
    assert torch.equal(twin.own(features), twin(X))
    assert not torch.equal(twin(X), model(X))
    assert torch.equal(suffix(features), model(X))


def test_other_threads_see_the_whole_model() -> None:
    model, suffix, features = net()
    expected, found = model(X), []

    def meanwhile(*_: Any) -> None:
        handle.remove()
        thread = threading.Thread(target=lambda: found.append(model(X)))
        thread.start()
        thread.join()

    handle = model.blocks[2].register_forward_hook(meanwhile)
    assert torch.equal(suffix(features), expected)
    assert torch.equal(found[0], expected)


def test_a_call_that_fails_leaves_the_model_whole() -> None:
    model, suffix, features = net()
    expected = model(X)
    handle = model.head.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        suffix(features)
    handle.remove()
    assert torch.equal(model(X), expected)
    assert torch.equal(suffix(features), expected)


def test_measuring_apart_leaves_nothing_behind() -> None:
    model, suffix, features = net()
    model.temperature, model.aux = 2.0, None
    calls = model.calls
    other = suffix.shadow()
    assert torch.equal(other(features), model(X))
    model.aux, calls = None, model.calls
    other.train()(features)
    assert model.aux is None
    assert model.calls == calls
    assert not model.training


# -- ways of calling layers


def test_layers_whose_forward_is_called_itself() -> None:
    class Direct(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem.forward(x)
            for block in self.blocks:
                x = block.forward(x)
            return self.head.forward(x)

    model = Direct()
    for cut in find_cuts(model, X):
        assert_law(model, *divide(model, cut, X), X)


EXPORTS: dict[str, Callable[[nn.Module], Any]] = {
    "script": torch.jit.script,
    "trace": lambda model: torch.jit.trace(model, X),
    "fx": torch.fx.symbolic_trace,
    "export": lambda model: torch.export.export(model, (X,)).module(),
}


@pytest.mark.parametrize("how", EXPORTS)
def test_a_divided_model_is_exported_as_ever(how: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).eval()
    _, suffix, features = parts(model, "2")
    expected = model(X)
    assert list(inspect.signature(model[0].forward).parameters) == ["input"]
    torch.testing.assert_close(EXPORTS[how](model)(X), expected)
    assert torch.equal(suffix(features), expected)


# -- as a module


def test_moving_the_suffix_moves_what_is_behind() -> None:
    model, suffix, features = net()
    suffix.double()
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    behind = {name for name, _ in suffix.named_parameters()}
    assert {name for name, kind in kinds.items() if kind == torch.float64} == behind
    assert suffix(features.double()).dtype == torch.float64


def test_loading_says_what_is_missing_and_what_belongs_in_front() -> None:
    model, suffix, _ = net()
    state = suffix.state_dict()
    assert all(state[name].data_ptr() == model.state_dict()[name].data_ptr() for name in state)
    del state["head.bias"]
    with pytest.raises(RuntimeError, match=r"missing keys \['head.bias'\], unexpected keys \['stem.weight', 'other'\]"):
        suffix.load_state_dict({**state, "stem.weight": model.stem.weight, "other": torch.ones(1)})
    found = suffix.load_state_dict(state, strict=False)
    assert found.missing_keys == ["head.bias"]
    assert found.unexpected_keys == []


def test_apply_and_children_reach_what_is_behind() -> None:
    model = Net()
    prefix, suffix, _ = parts(model)
    seen: list[nn.Module] = []
    suffix.apply(seen.append)
    front = {model.get_submodule(name) for name in prefix.module_names}
    assert set(seen) == {*model.modules(), suffix} - front - {model}
    assert [name for name, _ in suffix.named_children()] == ["blocks", "head"]
    outer = nn.ModuleDict({"model": model, "suffix": suffix})
    assert len(list(outer.parameters())) == len(list(model.parameters()))


# -- compilers


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh_compiler")
def test_a_compiled_suffix_runs_no_hooks_of_the_front_and_is_compiled_once() -> None:
    class Plain(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.blocks(self.stem(x))) / self.temperature

    model, fired, graphs = Plain().eval(), [], []
    model.stem = weight_norm(model.stem)
    model.blocks[0].register_forward_hook(lambda *_: fired.append(1))
    _, suffix, features = parts(model)
    fired.clear()

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    compiled = torch.compile(suffix, backend=backend, fullgraph=True)
    for _ in range(4):
        torch.testing.assert_close(compiled(features), suffix(features))
    assert fired == []
    assert len(graphs) == 1
    assert sum("linear" in target for target in graphs[0]) == 3
    model.blocks[3] = Block().eval()
    torch.testing.assert_close(compiled(features), suffix(features))
    torch.testing.assert_close(torch.compile(model, backend="eager")(X), model(X))
