"""What makes a prefix inert, and what makes it trainable again.

A frozen layer whose batch-norm statistics still move, whose dropout still draws, or whose weights an optimizer's
decay still shrinks would no longer give the features that were stored. So a freeze acts on all three, on the model
itself, and a thaw undoes each.
"""

from __future__ import annotations

import functools
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from torch import nn

from ..cuts import Prefix, bare
from ..errors import ArgumentError

__all__ = ["Frozen", "HasParamGroups", "freeze", "thaw"]


class HasParamGroups(Protocol):
    """What Hoarfrost needs of an optimizer."""

    param_groups: list[dict[str, Any]]
    state: Any


@dataclass(frozen=True, eq=False)
class Place:
    """Where in an optimizer's groups a parameter stood.

    Attributes:
        name: that it has there, where the optimizer was given names.
    """

    group: int
    position: int
    parameter: nn.Parameter
    name: str | None


@dataclass(frozen=True, eq=False)
class Frozen:
    """What a freeze changed, so that it can be undone.

    Attributes:
        prefix: the prefix that was frozen; `prefix.whole` is the model.
        optimizer: whose groups were edited, or None.
        parameter_names: parameters that this freeze made inert (not those that needed no gradient before).
        shared_parameters: those of the prefix that the suffix reads too. They are frozen with the rest: were they
            trained, the stored features would go stale.
        module_names: modules of the model that stay in eval from this freeze on.
        modes: `training` of each of these modules before.
        prefix_modes: `training` of the prefix's own modules before.
        prefix_was_frozen: whether the prefix itself was frozen before.
        places: where each parameter stood that was taken out of the optimizer.
    """

    prefix: Prefix
    optimizer: Any
    parameter_names: tuple[str, ...]
    shared_parameters: tuple[str, ...]
    module_names: tuple[str, ...]
    modes: tuple[bool, ...]
    prefix_modes: tuple[bool, ...]
    prefix_was_frozen: bool
    places: tuple[Place, ...]


# The freezes in force on each model, oldest first: they are undone in reverse, like any nested change.
_in_force: WeakKeyDictionary[nn.Module, list[ref[Frozen]]] = WeakKeyDictionary()


def freeze(model: nn.Module, prefix: Prefix, optimizer: Any = None) -> Frozen:
    """Make the front of a model inert: eval for ever, no gradients, out of the optimizer.

    The prefix's modules inside the model stay in eval whatever `model.train()` is called later, so that batch-norm
    statistics stand still and dropout draws nothing; those whose mode is read behind the cut follow the model's. Their
    parameters lose `requires_grad` and `grad`, leave the optimizer's groups, and the optimizer's state for them is
    freed; the state of the others and the number and order of the groups stay. The prefix records no gradients from now
    on. A deeper prefix can be frozen on top of a shallower one.

    Args:
        model: the model that was divided.
        prefix: its front, from `divide`.
        optimizer: anything with `param_groups` and `state`, or None.

    Returns:
        What `thaw` needs.

    Raises:
        ArgumentError: the prefix is not of this model, or the optimizer has no groups or no state.
    """
    if not isinstance(prefix, Prefix):
        raise ArgumentError(f"freeze: a Prefix from hoarfrost.divide is needed, not {type(prefix).__name__}")
    model = bare(model)
    if prefix.whole is not model:
        raise ArgumentError(
            f"freeze: this prefix was divided from another {type(prefix.whole).__name__}, not from the model given"
        )
    _check_optimizer(optimizer)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    mine = [*prefix.parameter_names, *prefix.shared_parameters]
    awake = tuple(name for name in mine if parameters[name].requires_grad)
    modules = dict(model.named_modules(remove_duplicate=False))
    heeded = {modules[name] for name in prefix.heeded_names}
    still = [name for name in prefix.module_names if modules[name] not in heeded]
    asleep = tuple(name for name in still if "train" not in modules[name].__dict__)
    frozen = Frozen(
        prefix=prefix,
        optimizer=optimizer,
        parameter_names=awake,
        shared_parameters=prefix.shared_parameters,
        module_names=asleep,
        modes=tuple(modules[name].training for name in asleep),
        prefix_modes=tuple(module.training for module in prefix.modules()),
        prefix_was_frozen=prefix.frozen,
        places=_take_out(optimizer, {id(parameters[name]) for name in mine}),
    )
    for name in mine:
        parameters[name].requires_grad_(False)
        parameters[name].grad = None
    for name in asleep:
        module = modules[name]
        module.training = False
        inside = tuple(each for each in module.modules() if each in heeded)
        module.__dict__["train"] = functools.partial(_stay_in_eval, module, inside)
    prefix.frozen = True
    prefix.eval()
    _in_force.setdefault(model, []).append(ref(frozen))
    return frozen


def thaw(frozen: Frozen) -> None:
    """Undo a freeze: gradients, training flags and places in the optimizer's groups are as they were before it.

    The optimizer's state of the thawed parameters starts anew.

    Raises:
        ArgumentError: it was thawed already, or another freeze on top of it is still in force.
    """
    model = frozen.prefix.whole
    stack = [known for known in _in_force.get(model, []) if known() is not None]
    if not any(known() is frozen for known in stack):
        raise ArgumentError("thaw: this freeze is no longer in force")
    if stack[-1]() is not frozen:
        later = stack[-1]()
        label = later.prefix.cut.label if later is not None else ""
        raise ArgumentError(f"thaw: the freeze up to '{label}' lies on top of this one; thaw that first")
    _in_force[model] = stack[:-1]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    # A layer that the user has taken out meanwhile is none of the model's any more.
    for name in parameters.keys() & frozen.parameter_names:
        parameters[name].requires_grad_(True)
    _put_back(frozen.optimizer, frozen.places)
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, mode in zip(frozen.module_names, frozen.modes, strict=True):
        if name not in modules:
            continue
        modules[name].__dict__.pop("train", None)
        # Of a model that is in eval by now, all of it is.
        modules[name].training = mode and model.training
    frozen.prefix.frozen = frozen.prefix_was_frozen
    for module, mode in zip(frozen.prefix.modules(), frozen.prefix_modes, strict=True):
        module.training = mode


def _stay_in_eval(module: nn.Module, heeded: Sequence[nn.Module], mode: bool = True) -> nn.Module:
    """Stands in for `module.train`.

    Args:
        heeded: modules in it that follow the model's mode, until a deeper freeze puts them to sleep too.
    """
    type(module).train(module, False)
    for each in heeded:
        each.training = mode and "train" not in each.__dict__
    return module


def _take_out(optimizer: Any, identities: set[int]) -> tuple[Place, ...]:
    if optimizer is None:
        return ()
    places = []
    for index, group in enumerate(optimizer.param_groups):
        # Of `Optimizer(model.named_parameters())`: torch keeps the names in a list beside the parameters.
        names: list[str] = group.get("param_names") or [None] * len(group["params"])
        taken = [
            Place(index, position, parameter, name)
            for position, (parameter, name) in enumerate(zip(group["params"], names, strict=True))
            if id(parameter) in identities
        ]
        # In place: wrappers and schedulers may hold this very list.
        for place in reversed(taken):
            del group["params"][place.position]
            if place.name is not None:
                del names[place.position]
            optimizer.state.pop(place.parameter, None)
        places += taken
    return tuple(places)


def _put_back(optimizer: Any, places: tuple[Place, ...]) -> None:
    """Each where it stood, but for those that the user has given to the optimizer again."""
    held = set() if optimizer is None else {id(p) for group in optimizer.param_groups for p in group["params"]}
    for place in places:
        if id(place.parameter) not in held:
            group = optimizer.param_groups[place.group]
            group["params"].insert(place.position, place.parameter)
            if place.name is not None:
                group["param_names"].insert(place.position, place.name)


def _check_optimizer(optimizer: Any) -> None:
    if optimizer is None:
        return
    groups, state = getattr(optimizer, "param_groups", None), getattr(optimizer, "state", None)
    well_formed = isinstance(groups, list) and all(isinstance(g, dict) and "params" in g for g in groups)
    if not well_formed or not isinstance(state, MutableMapping):
        raise ArgumentError(
            f"freeze: an optimizer with param_groups and state is needed, not {type(optimizer).__name__}"
        )
