"""What has gone wrong in other ways of dividing models, and what goes wrong still, each in a few plain modules."""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from cut_law import assert_law, assert_same
from torch import Tensor, nn

from hoarfrost.cuts import Prefix, Suffix, divide, find_cut, find_cuts, require_cuts
from hoarfrost.errors import HoarfrostError, InvalidCutError, NoCutError

KEPT: list[nn.Module] = []  # what global variables lead to
X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def linear(outputs: int = 4) -> nn.Linear:
    return nn.Linear(4, outputs)


class Chain(nn.Module):
    """Three layers; the subclasses do something between the first and the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = linear(), linear(), linear(2)

    def between(self, x: Tensor) -> Tensor:
        return x.tanh()

    def forward(self, x: Tensor) -> Any:
        return self.last(self.second(self.between(self.first(x))).tanh())


def parts(model: nn.Module, label: str, x: Tensor = X) -> tuple[Prefix, Suffix]:
    return divide(model, find_cut(find_cuts(model, x), label), x)


def labels(model: nn.Module, many: int = 1) -> list[str]:
    return [cut.label for cut in find_cuts(model, X, max_tensors=many)]


def divides_or_refuses(model: nn.Module, label: str) -> None:
    """The cut is not offered, or is refused by a HoarfrostError, or keeps the law; nothing else."""
    if label not in labels(model):
        return
    try:
        prefix, suffix = parts(model, label)
    except HoarfrostError:
        return
    for part in (model, prefix, suffix):
        part.eval()
    assert_same(model(X), suffix(prefix(X)))


def offered_cuts_hold(model: nn.Module) -> None:
    """Each cut that is offered can be made, and the parts compute what the model computes."""
    for cut in find_cuts(model, X):
        prefix, suffix = divide(model, cut, X)
        for part in (model, prefix, suffix):
            part.eval()
        assert_same(model(X), suffix(prefix(X)))


# -- writing into the boundary


@pytest.mark.parametrize(
    "write",
    [
        lambda x: torch.relu_(x),
        lambda x: x.mul_(2),
        lambda x: x[:, :2].add_(1) @ x[:, :2].T @ x,
        lambda x: nn.functional.hardswish(x, inplace=True),
        lambda x: torch.add(x, 1, out=x),
    ],
    ids=["relu_", "mul_", "into a view", "hardswish", "out="],
)
def test_features_survive_what_the_model_writes_into_them(write: Callable[[Tensor], Tensor]) -> None:
    class Writes(Chain):
        def between(self, x: Tensor) -> Tensor:
            return write(x) if not x.requires_grad else x

    model = Writes().requires_grad_(False)
    cut = find_cut(find_cuts(model, X), "first")
    assert cut.mutated
    prefix, suffix = divide(model, cut, X)
    features = prefix(X)
    kept = features.clone()
    assert torch.equal(suffix(features), suffix(features))
    assert torch.equal(features, kept)


# -- branches of one mode


class Auxiliary(Chain):
    """A second classifier in train mode, as GoogLeNet has it."""

    def __init__(self, reads: str) -> None:
        super().__init__()
        self.reads, self.auxiliary = reads, linear(2)

    def forward(self, x: Tensor) -> Any:
        first = self.first(x)
        second = self.second(first.tanh())
        output = self.last(second.tanh())
        return (output, self.auxiliary(first if self.reads == "first" else second)) if self.training else output


def test_a_branch_that_train_mode_alone_has() -> None:
    assert labels(Auxiliary("first")) == ["first"]
    model = Auxiliary("second")
    assert labels(model) == ["first", "second"]  # the classifier of train mode is none
    for label in ("first", "second"):
        assert_law(model, *parts(model, label), X)


# -- what a model keeps between calls


class Remembers(Chain):
    """A table is worked out in the first call and kept in a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Tensor | None = None

    def between(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.arange(4.0).sin()
        return x * self.table


def test_tables_of_inference_mode_do_not_reach_the_model() -> None:
    model = Remembers()
    with torch.inference_mode():
        cuts = find_cuts(model, X)
    assert model.table is None
    prefix, suffix = divide(model, cuts[0], X)
    assert model.table is None
    suffix(prefix(X)).sum().backward()
    model.zero_grad(set_to_none=True)
    assert_law(model, prefix, suffix, X)


def test_features_made_in_inference_mode_train_a_suffix() -> None:
    model = Chain()
    prefix, suffix = parts(model, "first")
    with torch.inference_mode():
        features = prefix(X)
    suffix(features.clone()).sum().backward()
    assert all(parameter.grad is not None for parameter in suffix.parameters())


def test_flops_are_the_same_in_inference_mode() -> None:
    model = Chain()
    with torch.inference_mode():
        cuts = find_cuts(model, X)
    assert cuts == find_cuts(model, X)


def test_statistics_on_both_sides_of_a_place_that_the_model_keeps_itself() -> None:
    class Statistics(Chain):
        seen: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            self.seen.add_(x.detach().mean(0))
            x = self.second(x)
            self.seen.add_(x.detach().mean(0))
            return self.last(x)

    # Behind `first` the buffer starts from nothing of the data; behind `second` it would need what was added in front.
    assert labels(Statistics()) == ["first"]


# -- hooks that capture


def test_outputs_that_hooks_capture_for_the_model_are_alive() -> None:
    class Captures(Chain):
        captured: list[Tensor] = []  # noqa: RUF012 - of the class, so that shadows of the model share it

        def __init__(self) -> None:
            super().__init__()
            for layer in (self.first, self.second):
                layer.register_forward_hook(lambda _, __, output: self.captured.append(output))

        def forward(self, x: Tensor) -> Any:
            self.captured.clear()
            return super().forward(x), tuple(self.captured)

    with pytest.raises(NoCutError, match="first: besides what it gives"):
        require_cuts(Captures(), X)


@pytest.mark.parametrize("bound", [False, True], ids=["closure", "bound method"])
def test_hooks_that_capture_into_the_model_itself(bound: bool) -> None:
    class Captures(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.captured: list[Tensor] = []
            keep = self.keep if bound else lambda _, __, output: self.captured.append(output.detach().mean())
            for layer in (self.first, self.second):
                layer.register_forward_hook(keep)

        def keep(self, _: nn.Module, __: Any, output: Tensor) -> None:
            self.captured.append(output.detach().mean())

        def forward(self, x: Tensor) -> Any:
            self.captured.clear()
            return super().forward(x), tuple(self.captured)

    assert labels(Captures()) == []
    with pytest.raises(NoCutError, match="first: besides what it gives, 1 more cross it"):
        require_cuts(Captures(), X)


def test_hooks_of_the_model_that_keep_what_is_behind_the_cut() -> None:
    class Captures(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.captured: list[Tensor] = []
            self.last.register_forward_hook(lambda _, __, output: self.captured.append(output.exp()))

        def forward(self, x: Tensor) -> Any:
            self.captured.clear()
            return super().forward(x), tuple(self.captured)

    model = Captures()
    prefix, suffix = parts(model, "second")
    for part in (model, prefix, suffix):
        part.eval()
    got = suffix(prefix(X))
    assert len(model.captured) == 1
    assert model.captured[0] is got[1][0]
    assert_same(model(X), got)
    assert len(got[1]) == 1


def test_lists_of_the_user_are_filled_by_the_parts() -> None:
    model, seen = Chain(), []
    model.last.register_forward_hook(lambda _, __, output: seen.append(output))
    prefix, suffix = parts(model, "second")
    seen.clear()
    output = suffix(prefix(X))
    assert len(seen) == 1
    assert seen[0] is output


def test_a_hook_that_the_model_alone_has() -> None:
    class Owner(Chain):
        """A global variable leads to the model, past any shadow."""

        def forward(self, x: Tensor) -> Tensor:
            KEPT[0].__dict__["times"] = KEPT[0].__dict__.get("times", 0) + 1
            return super().forward(x) * (2 if KEPT[0] is self else 1)

    model = Owner()
    KEPT[:] = [model]
    cut = find_cut(find_cuts(model, X), "first")
    with pytest.raises(InvalidCutError, match="the model does what its modules alone do not: output 0 differs"):
        divide(model, cut, X)


# -- modules that a shadow does not reach


class Elsewhere(nn.Module):
    """Calls a layer by way of a closure, or of an object that is no module."""

    class Route:
        def __init__(self, *layers: nn.Module) -> None:
            self.layers = layers

        def __call__(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    def __init__(self, way: str) -> None:
        super().__init__()
        self.first, self.norm, self.drop, self.last = linear(), nn.BatchNorm1d(4), nn.Dropout(0.5), linear(2)
        self.route = self.Route(self.norm, self.drop) if way == "object" else lambda x: self.drop(self.norm(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.route(self.first(x)))


@pytest.mark.parametrize("way", ["closure", "object"])
def test_finding_cuts_moves_no_statistics_of_modules_reached_otherwise(way: str) -> None:
    model = Elsewhere(way)
    kept = model.norm.running_mean.clone()
    find_cuts(model, X)
    assert torch.equal(model.norm.running_mean, kept)
    prefix, suffix = parts(model, "first")
    assert torch.equal(model.norm.running_mean, kept)
    for part in (model, prefix, suffix):
        part.eval()
    assert torch.equal(suffix(prefix(X)), model(X))


def test_modules_that_only_a_global_variable_leads_to() -> None:
    class Global(Elsewhere):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(KEPT[0](self.first(x)))

    model = Global("closure")
    KEPT[:] = [model.norm]
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(NoCutError, match="calls its module 'norm' by way of something that is not its own"):
        find_cuts(model.train(), X)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


def test_parameters_that_the_model_writes_into_come_back() -> None:
    class Clamps(Chain):
        def forward(self, x: Tensor) -> Any:
            self.second.weight.data.mul_(0.5)
            with torch.no_grad():
                self.last.weight.clamp_(-0.1, 0.1)
            return super().forward(x)

    model = Clamps()
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    versions = [parameter._version for parameter in model.parameters()]
    cut = find_cut(find_cuts(model, X), "first")
    with pytest.raises(InvalidCutError, match="in eval mode output 0 differs"):  # halved by each of the two parts
        divide(model, cut, X)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert [parameter._version for parameter in model.parameters()] == versions


def test_verifying_leaves_gradients_and_their_hooks_alone() -> None:
    model, fired = Chain(), []
    model(X).sum().backward()
    grads = [parameter.grad for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.register_hook(lambda grad: fired.append(grad))
        parameter.register_post_accumulate_grad_hook(lambda p: fired.append(p))
    kept = [grad.clone() for grad in grads]
    parts(model, "first")
    assert fired == []
    assert all(p.grad is grad for p, grad in zip(model.parameters(), grads, strict=True))
    assert all(map(torch.equal, grads, kept))


@pytest.mark.parametrize("way", ["closure", "object"])
def test_modes_of_modules_reached_otherwise(way: str) -> None:
    model = Elsewhere(way).train()
    try:
        prefix, suffix = parts(model, "first")
    except HoarfrostError:
        return
    features = prefix.eval()(X)
    suffix.eval()
    assert torch.equal(suffix(features), suffix(features))


# -- memory that the two parts share with the model


class Scaled(nn.Module):
    """Buffers of the model itself: one is used in front of the cut, one behind."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("scale", torch.full((4,), 2.0))
        self.first, self.last = linear(), linear(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x - self.mean) * self.scale)


def test_buffers_of_one_module_go_to_the_side_that_reads_them() -> None:
    model = Scaled()
    prefix, suffix = parts(model, "first")
    assert [name for name, _ in prefix.named_buffers()] == ["mean"]
    assert [name for name, _ in suffix.named_buffers()] == ["scale"]
    assert_law(model, prefix, suffix, X)


@pytest.mark.parametrize("change", ["double", "load_state_dict", "assigned"])
def test_what_happens_to_the_model_afterwards_reaches_such_buffers(change: str) -> None:
    model = Scaled()
    prefix, suffix = parts(model, "first")
    if change == "double":
        model.double()
    elif change == "load_state_dict":
        model.load_state_dict({key: tensor + 1 for key, tensor in model.state_dict().items()}, assign=True)
    else:
        model.scale = torch.full((4,), 3.0)
    for part in (prefix, suffix):
        for name, tensor in part.state_dict(keep_vars=True).items():
            assert tensor is model.state_dict(keep_vars=True)[name]


# -- ghosts


def test_ghosts_take_no_random_numbers() -> None:
    class Noisy(Chain):
        def forward(self, x: Tensor) -> Tensor:
            x = x + torch.rand_like(x) + torch.randn(x.shape[0], 1)
            x = nn.functional.dropout(self.first(x), 0.5, training=True)
            return self.last(self.second(x) * torch.rand(x.shape[0], 1))

    model = Noisy()
    prefix, suffix = parts(model, "second")
    features = prefix(X).detach()
    torch.manual_seed(3)
    suffix(features)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    torch.rand(X.shape[0], 1)
    assert torch.equal(after, torch.get_rng_state())
    assert_law(model, prefix, suffix, X)


def test_zeros_in_the_shape_of_a_ghost_take_no_random_numbers() -> None:
    class Padded(Chain):
        def between(self, x: Tensor) -> Tensor:
            return x + torch.zeros_like(x) + x.new_ones(4)

    prefix, suffix = parts(Padded(), "second")
    features, before = prefix(X).detach(), torch.get_rng_state()
    suffix(features)
    assert torch.equal(before, torch.get_rng_state())


def test_ghosts_do_not_pile_up() -> None:
    class Scheduled(Chain):
        rate = 0.0

        def between(self, x: Tensor) -> Tensor:
            return x * self.rate

    model = Scheduled()
    prefix, suffix = parts(model, "second")
    features = prefix(X).detach()
    for batch in range(3000):
        Scheduled.rate = 1 / (batch + 1)
        suffix(features)
    assert len(suffix._resumption.worked_out) < 2000


@pytest.mark.parametrize(
    "select",
    [
        lambda x: torch.zeros_like(x).index_put((x.sum(1) > 0,), x[x.sum(1) > 0].exp()),
        lambda x: x + torch.masked_select(x, x > 0).mean(),
        lambda x: x + torch.bincount((x[:, 0] > 0).long()).double().mean().to(x.dtype),
        lambda x: x + torch.repeat_interleave(x[:, 0], (x[:, 0] > 0).long() + 1).mean(),
    ],
    ids=["boolean index", "masked_select", "bincount", "repeat_interleave"],
)
def test_cuts_behind_what_asks_for_values(select: Callable[[Tensor], Tensor]) -> None:
    class Selects(Chain):
        def between(self, x: Tensor) -> Tensor:
            return select(x)

    offered_cuts_hold(Selects())


@pytest.mark.parametrize(
    "scale",
    [
        lambda x: torch.as_tensor(x.mean(1).tolist()).to(x.dtype),
        lambda x: torch.as_tensor(x.detach().mean(1).numpy()),
        lambda x: torch.from_dlpack(x.detach().mean(1)),
        lambda x: torch.as_tensor(np.asarray(x.detach().mean(1))),
    ],
    ids=["tolist", "numpy", "dlpack", "asarray"],
)
@pytest.mark.parametrize("verify", [False, True], ids=["unverified", "verified"])
def test_values_that_are_taken_past_the_operators(scale: Callable[[Tensor], Tensor], verify: bool) -> None:
    class Takes(Chain):
        def between(self, x: Tensor) -> Tensor:
            return x * scale(x)[:, None]

    model = Takes()
    assert labels(model) == ["first", "second"]
    cut = find_cut(find_cuts(model, X), "second")
    fault = r"cut 'second': the model makes Python values of a tensor \[5\] from 'first'"
    if verify:
        with pytest.raises(InvalidCutError, match=fault):
            divide(model, cut, X)
        return
    prefix, suffix = divide(model, cut, X, verify=False)
    features = prefix(X)
    with pytest.raises(InvalidCutError, match=fault):
        suffix(features)


def test_values_that_a_finished_module_keeps_for_later() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = linear()

        def forward(self, x: Tensor) -> Tensor:
            x = self.layer(x)
            self.scale = x.detach().mean().numpy()
            return x

    class Reads(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.first = Keeps()

        def between(self, x: Tensor) -> Tensor:
            return x.tanh() * float(self.first.scale)

    with pytest.raises(InvalidCutError, match="the parts fail: AttributeError"):
        parts(Reads(), "first")


def test_a_module_that_calls_itself() -> None:
    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = linear()

        def forward(self, x: Tensor, depth: int = 2) -> Tensor:
            return self(x, depth - 1) * 2 if depth else self.layer(x).tanh()

    offered_cuts_hold(nn.Sequential(linear(), Calls(), linear(2)))


class Average(Scaled):
    """Running averages that are new tensors each time: of what comes in, of what the first layer gives, or of both."""

    mean: Tensor
    scale: Tensor

    def __init__(self, *replaced: str) -> None:
        super().__init__()
        self.replaced = replaced

    def forward(self, x: Tensor) -> Tensor:
        if self.training and "mean" in self.replaced:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        x = self.first(x - self.mean)
        if self.training and "scale" in self.replaced:
            self.scale = 0.9 * self.scale + 0.1 * x.detach().std(0)
        return self.last(x * self.scale)


def test_no_cut_behind_a_buffer_that_the_model_replaces() -> None:
    assert labels(Average("mean")) == labels(Average("mean", "scale")) == []
    with pytest.raises(NoCutError, match="replaces its buffer 'mean' in the model's own forward, which goes on"):
        require_cuts(Average("mean"), X)


def test_a_buffer_that_is_replaced_behind_the_cut() -> None:
    model = Average("scale")
    pair = parts(model, "first")
    assert_law(model, *pair, X)
    assert model.scale.std() > 0
    assert pair[1].scale is model.scale
    for part in (pair[1], model, pair[1]):
        part.double()
        assert pair[1].get_buffer("scale") is model.scale
        part.float()
        assert pair[1].get_buffer("scale") is model.scale


def test_the_earlier_call_of_a_block_crosses_a_cut_inside_its_later_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block, self.last = linear(), nn.Sequential(linear(), nn.Tanh(), linear()), linear(2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.block(self.stem(x))
            return self.last(x + self.block(x))

    model = Twice()
    cut = find_cut(find_cuts(model, X, max_tensors=2), "block.0#1")
    assert [other.source for other in cut.others] == ["block"]
    assert_law(model, *divide(model, cut, X), X)


# -- numbers


@pytest.mark.parametrize("difference", [0.0, 1e-4])
def test_other_kernels_without_gradients_are_measured(difference: float) -> None:
    class Kernels(Chain):
        def between(self, x: Tensor) -> Tensor:
            return x if torch.is_grad_enabled() else x * (1 + difference)

    prefix, _ = parts(Kernels(), "second")
    assert prefix.rounding is not None
    assert (prefix.rounding == 0) == (difference == 0)
    assert prefix.rounding < 10 * difference or difference == 0


def test_autocast_on_one_side_fails_loudly() -> None:
    model = Chain()
    prefix, suffix = parts(model, "first")
    with torch.autocast("cpu", torch.bfloat16):
        features = prefix(X)
    assert features.dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="same dtype"):
        suffix(features)


# -- skips


def test_no_single_tensor_crosses_beneath_skips() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.deep, self.up, self.last = linear(), linear(), nn.Linear(8, 4), linear(2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.down(x)
            return self.last(self.up(torch.cat([x, self.deep(x.tanh())], 1)))

    assert labels(Skips()) == ["down", "up"]
    assert labels(Skips(), many=2) == ["down", "deep", "up"]


# -- compilers and copies


def test_a_compiled_suffix_holds_nothing_of_the_front() -> None:
    torch.manual_seed(0)
    model, found = nn.Sequential(*[layer for _ in range(4) for layer in (linear(), nn.Tanh())], linear(2)).eval(), []
    prefix, suffix = parts(model, "3")

    def look(graph: torch.fx.GraphModule, _: Any) -> Any:
        found.append([node.target for node in graph.graph.nodes if node.op.startswith("call_")])
        return graph.forward

    torch._dynamo.reset()
    features = prefix.eval()(X).detach()
    assert torch.equal(torch.compile(suffix.eval(), backend=look, fullgraph=True)(features), model(X))
    assert len(found) == 1
    assert sum("linear" in str(target) for target in found[0]) == 3
    assert sum("tanh" in str(target) for target in found[0]) == 2


def test_pickles_name_nothing_that_was_made_on_the_fly() -> None:
    model = nn.Sequential(linear(), nn.ReLU(inplace=True), nn.Dropout(0.1), linear(2))
    pair = parts(model, "1")
    pair[1](pair[0](X))
    strings = [
        argument for _, argument, _ in pickletools.genops(pickle.dumps(pair, protocol=0)) if isinstance(argument, str)
    ]
    modules = {text.split()[0].partition(".")[0] for text in strings if text.count(" ") == 1 and "." in text.split()[0]}
    assert modules <= {"torch", "hoarfrost", "collections", "copyreg", "builtins"}
    assert {"torch", "hoarfrost"} <= modules
