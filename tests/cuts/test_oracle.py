"""The cuts of generated networks, found by experiment: what `find_cuts` offers is all there is, and nothing else.

The experiment knows nothing of liveness. The model runs on one input, and again on another input where one module's
output is exchanged for what it was the first time. If the end is the same, all that follows is a function of that
output alone.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
import torch
from cut_law import assert_law, copied, tensors
from generated_nets import Program, Step, learns, programs
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from hoarfrost.cuts import Cut, divide, find_cuts

ROWS = 5  # no other dimension of a generated network has this size
Place = tuple[str, int]
Example = tuple[Any, ...]
bounded = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@dataclass
class Run:
    """What one pass gave: the tensors at each place watched, the model's output, and the buffers written behind."""

    seen: dict[Place, list[Tensor]] = field(default_factory=dict)
    handed_on: list[bool] = field(default_factory=list)
    end: list[Tensor] = field(default_factory=list)
    buffers: dict[str, Tensor] = field(default_factory=dict)


class Bench:
    """A copy of a model that runs with some of its tensors exchanged; each run begins with the same buffers."""

    def __init__(self, model: nn.Module, shift: float = 0.0) -> None:
        self.body = copy.deepcopy(model)
        self.buffers = {name: buffer.clone() for name, buffer in self.body.named_buffers()}
        with torch.no_grad():
            for parameter in self.body.parameters():
                parameter.add_(shift)

    def run(
        self,
        example: Example,
        *,
        training: bool,
        at: Place,
        seed: int,
        grafts: Mapping[tuple[str, int, int], Tensor] | None = None,
        watched: Sequence[Place] = (),
    ) -> Run:
        """One pass.

        Args:
            at: the place: from there on chance begins anew, and the buffers that change are noted.
            seed: of chance in front of the place.
            grafts: tensors that take the place of what a module gives: (module, call, number of the tensor).
            watched: further places of which the tensors are kept.
        """
        found, calls = Run(), Counter[str]()
        inputs: list[tuple[int, int]] = []
        before: dict[str, Tensor] = {}

        def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
            inputs[:] = [(memory(t), t._version) for t in only_tensors((args, kwargs))]

        def leave(name: str, output: Any) -> Any:
            place = (name, calls[name])
            calls[name] += 1
            given = only_tensors(output)
            if place == at:
                found.handed_on = [(memory(t), t._version) in inputs for t in given]
                chance.manual_seed(99)
                before.update({key: buffer.clone() for key, buffer in self.body.named_buffers()})
            if place == at or place in watched:
                found.seen[place] = [t.clone() for t in given]
            numbers = count()
            return tree_map_only(Tensor, lambda t: exchanged.get((*place, next(numbers)), t), output)

        exchanged = {key: tensor.clone() for key, tensor in (grafts or {}).items()}
        modules = {name: self.body.get_submodule(name) for name, *_ in (at, *watched, *exchanged)}
        hooks = [modules[at[0]].register_forward_pre_hook(enter, with_kwargs=True)]
        hooks += [m.register_forward_hook(lambda _, __, output, n=n: leave(n, output)) for n, m in modules.items()]
        chance = torch.random.default_generator
        chance.manual_seed(seed)
        with torch.no_grad():
            output = self.body.train(training)(*copied(example))
        found.end = [t.clone() for t in only_tensors(output)]
        for name, buffer in self.body.named_buffers():
            if name in before and not same(buffer, before[name]):
                found.buffers[name] = buffer.clone()
            buffer.copy_(self.buffers[name])
        for hook in hooks:
            hook.remove()
        return found


def only_tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tensors(value) if isinstance(leaf, Tensor)]


def memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def same(a: Any, b: Any) -> bool:
    """Equal up to the rounding of doubles: another layout in memory may change the order of a sum."""
    if isinstance(a, Tensor):
        return torch.allclose(a.double(), b.double(), rtol=1e-9, atol=1e-12)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return len(a) == len(b) and all(map(same, a, b))


def places(model: nn.Module, example: Example) -> list[Place]:
    """All calls of modules in eval, in the order of their ends."""
    body, found, calls = copy.deepcopy(model).eval(), [], Counter[str]()

    def note(name: str) -> None:
        def leave(*_: Any) -> None:
            found.append((name, calls[name]))
            calls[name] += 1

        body.get_submodule(name).register_forward_hook(leave)

    for name, _ in model.named_modules():
        if name:
            note(name)
    with torch.no_grad():
        body(*example)
    return found


class Experiment:
    """Two inputs of one model, and the model with all its parameters shifted."""

    def __init__(self, model: nn.Module, one: Example, two: Example) -> None:
        self.model, self.one, self.two = model, one, two
        self.bench, self.shifted = Bench(model), Bench(model, shift=0.05)

    def is_cut(self, at: Place, number: int) -> bool:
        """Whether that tensor of that call is a cut, in eval and in train."""
        for training in (False, True):
            first = self.bench.run(self.one, training=training, at=at, seed=1)
            if number >= len(first.seen.get(at, ())):
                return False
            tensor = first.seen[at][number]
            if not tensor.is_floating_point() or tensor.ndim == 0 or tensor.shape[0] != ROWS or first.handed_on[number]:
                return False
            grafts = {(*at, number): tensor}
            second = self.bench.run(self.two, training=training, at=at, seed=2, grafts=grafts)
            if same(second.seen[at][number], tensor):
                return False  # no data in it
            if not same(second.end, first.end) or not same(second.buffers, first.buffers):
                return False
            shifted = self.shifted.run(self.one, training=training, at=at, seed=1, grafts=grafts)
            if same(shifted.seen[at][number], tensor) or same(shifted.end, first.end):
                return False  # no parameter in front of it, or none behind
        return True

    def cuts(self) -> dict[Place, int]:
        """Which calls are cuts, and which of their tensors crosses."""
        found = {}
        for at in places(self.model, self.one):
            many = len(self.bench.run(self.one, training=False, at=at, seed=1).seen[at])
            numbers = [number for number in range(many) if self.is_cut(at, number)]
            if numbers:
                found[at] = numbers[0]
        return found


def offered(cuts: list[Cut]) -> dict[Place, int]:
    """The places of all labels and aliases, with the number of the tensor that the label stands for."""
    found = {}
    for cut in cuts:
        for label in (cut.label, *cut.aliases):
            found[place_of(label)] = cut.number
    return found


def place_of(label: str) -> Place:
    name, _, call = label.partition("#")
    return name, int(call or 0)


def examples(program: Program) -> tuple[nn.Module, Example, Example]:
    model = program.model().double()
    return model, program.example(ROWS, 1, torch.float64), program.example(ROWS, 2, torch.float64)


@settings(bounded, max_examples=35)
@given(programs())
def test_cuts_are_those_that_the_experiment_finds(program: Program) -> None:
    model, one, two = examples(program)
    cuts = find_cuts(model, one)
    expected = Experiment(model, one, two).cuts()
    assert offered(cuts).keys() == expected.keys()
    for cut in cuts:
        assert cut.number == expected[cut.name, cut.call]


TWO_SKIPS = Program((Step("conv"), Step("conv"), Step("conv"), Step("add", back=2), Step("add", back=4)))


@settings(bounded, max_examples=15)
@given(programs(), st.integers(2, 3))
@example(TWO_SKIPS, 3)
def test_of_several_tensors_all_are_needed_and_they_suffice(program: Program, many: int) -> None:
    program = program.unshared()
    model, one, two = examples(program)
    bench = Bench(model)
    for cut in find_cuts(model, one, max_tensors=many):
        if cut.single:
            continue
        from_modules = [(*place_of(str(t.source)), t.number) for t in cut.tensors if not t.is_argument]
        from_arguments = [int(t.source) for t in cut.tensors if t.is_argument]
        assert len(from_modules) + sum(key != 1 for key in from_arguments) <= many  # argument 1 is the mask
        needs = [needed(bench, one, two, from_modules, from_arguments, training) for training in (False, True)]
        everywhere = {key: any(need[key] for need in needs) for key in needs[0]}
        assert everywhere == dict.fromkeys(everywhere, True), cut


def needed(
    bench: Bench,
    one: Example,
    two: Example,
    from_modules: list[tuple[str, int, int]],
    from_arguments: list[int],
    training: bool,
) -> dict[object, bool]:
    """For each tensor but the features, whether the end changes with it; it must not where all are exchanged."""
    at = from_modules[0][:2]
    watched = [port[:2] for port in from_modules]
    first = bench.run(one, training=training, at=at, seed=1, watched=watched)
    other = bench.run(two, training=training, at=at, seed=2, watched=watched)

    def end(ports: Sequence[tuple[str, int, int]], keys: Sequence[int]) -> Run:
        """From the second input, with these from the first; the others as they were, whatever they are made from."""
        mixed = tuple(one[key] if key in keys else value for key, value in enumerate(two))
        grafts = {port: (first if port in ports else other).seen[port[:2]][port[2]] for port in from_modules}
        return bench.run(mixed, training=training, at=at, seed=2, grafts=grafts)

    whole = end(from_modules, from_arguments)
    assert same(whole.end, first.end)
    assert same(whole.buffers, first.buffers)
    found: dict[object, bool] = {}
    for port in from_modules[1:]:
        without = end([p for p in from_modules if p != port], from_arguments)
        found[port] = not same(without.end, first.end)
    for key in from_arguments:
        if key != 1:  # the mask is the same for both
            without = end(from_modules, [k for k in from_arguments if k != key])
            found[key] = not same(without.end, first.end)
    return found


@settings(bounded, max_examples=15)
@given(programs(), st.integers(1, 3))
def test_every_cut_that_is_offered_satisfies_the_law(program: Program, many: int) -> None:
    program = program if many == 1 else program.unshared()
    model, batch = program.model(), program.example()
    assume(learns(model, batch))
    cuts = find_cuts(model, batch, max_tensors=many)
    for cut in cuts[:: max(1, len(cuts) // 3)]:
        prefix, suffix = divide(model, cut, batch, verify=False)
        assert_law(model, prefix, suffix, *batch)


@settings(bounded, max_examples=15)
@given(programs())
def test_finding_cuts_is_a_function_of_the_model_alone(program: Program) -> None:
    model, example = program.model().train(), program.example()
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    kept, chance = copied(example), torch.get_rng_state()
    with torch.inference_mode():
        labels = [cut.label for cut in find_cuts(model, example)]
    cuts = find_cuts(model, example)
    assert [cut.label for cut in cuts] == labels
    assert find_cuts(model.eval(), program.example(3, seed=5)) == cuts
    assert same(dict(model.state_dict()), state)
    assert all(torch.equal(a, b) for a, b in zip(only_tensors(example), only_tensors(kept), strict=True))
    assert torch.equal(torch.get_rng_state(), chance)


# -- the experiment itself: networks of which the answer is known


@pytest.mark.parametrize(
    ("steps", "cuts"),
    [
        ((Step("conv"), Step("add", back=1)), ["stem"]),
        ((Step("conv"), Step("gelu")), ["stem", "image_layers.conv_0", "image_layers.gelu_0"]),
        ((Step("conv"), Step("conv")), ["stem", "image_layers.conv_0", "image_layers.conv_0#1"]),
        ((Step("norm"), Step("norm")), ["stem", "image_layers.norm_0#1"]),
        ((Step("identity"), Step("dropout"), Step("turned")), ["stem"]),
        ((Step("draw"), Step("conv"), Step("use_drawn"), Step("relu_")), ["stem", "image_layers.relu__0"]),
    ],
    ids=["skip", "chain", "twice", "statistics on both sides", "views", "chance"],
)
def test_the_experiment_and_the_library_on_known_networks(steps: tuple[Step, ...], cuts: list[str]) -> None:
    model, one, two = examples(Program(steps))
    wanted = {place_of(label) for label in cuts}
    assert Experiment(model, one, two).cuts().keys() == wanted
    assert offered(find_cuts(model, one)).keys() == wanted
