"""A second body for a model: other module objects over the same parameters and buffers.

Training flags, hooks and plain attributes live in the module object, parameters and buffers in two dictionaries
that the object holds. So a shadow can be traced, stubbed and switched between train and eval without the model
noticing, while weights stay one and the same, and `model.to(device)` reaches both.
"""

from __future__ import annotations

import copy
import functools
import operator
import threading
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from .compiled import Uncompiled, is_wrapper
from .dispatcher import COMPILED, SLOTS, own_value
from .hooks import HOOKS, set_apart

__all__ = ["StrayError", "confined", "deep_copied", "own_forward", "shadow"]

SKELETON = frozenset({"_modules", "_parameters", "_buffers", *HOOKS})
EVERY_MODULES = frozenset(nn.Module().__dict__)
PLAIN = frozenset({bool, int, float, str, type(None)})
"""Of most attributes: nothing in them belongs to a model."""
CONTAINERS = frozenset({list, set, dict})


def shadow(
    model: nn.Module,
    keep: Callable[[str], bool] | None = None,
    *,
    copy_buffers: bool = False,
    own_gradients: bool = False,
    hooks_apart: bool = True,
) -> tuple[nn.Module, dict[nn.Module, nn.Module]]:
    """A clone of the module tree, none of it compiled, and the clone of each module.

    Args:
        model: the model; nothing in it changes.
        keep: whether the parameter or buffer of that name is registered in the clone. The others remain readable
            as plain attributes, so that code which asks for `self.weight.dtype` still runs. None keeps all.
        copy_buffers: the clone's buffers are copies, so that running it in train mode leaves the model's alone.
        own_gradients: the clone's parameters are other objects over the same memory, so that a backward pass through
            it fills no `grad` of the model's and calls none of its parameters' hooks.
        hooks_apart: the user's hooks keep copies of what they keep, see `set_apart`; else they count and collect as
            they do on the model.
    """
    names = {module: name for name, module in model.named_modules()}
    held = {module: _attributes(module) for module in names}
    clones = {module: _clone(module, attributes) for module, attributes in held.items()}
    twins: dict[int, Any] = {}
    for module, name in names.items():
        _fill(clones[module], module, f"{name}." if name else "", keep, twins, (own_gradients, copy_buffers))
    redirect = Redirection(clones, twins)
    for module, clone in clones.items():
        children = module._modules.items()
        clone.__dict__["_modules"] = {k: None if v is None else clones[v] for k, v in children}
    # Containers first: then it is known which of those that functions close over are the model's.
    others = []
    for module, clone in clones.items():
        for key, value in held[module].items():
            kind = type(value)
            if kind in CONTAINERS and key not in SKELETON:
                clone.__dict__[key] = redirect(value)
            elif kind not in PLAIN and key not in SKELETON and (kind is not OrderedDict or value):  # most are of hooks
                others.append((clone, key, value))
    for clone, key, value in others:
        clone.__dict__[key] = redirect(value)
    for module, clone in clones.items():
        for key in HOOKS:
            hooks = module.__dict__[key]
            clone.__dict__[key] = twin = type(hooks)()
            for handle, hook in hooks.items():
                twin[handle] = redirect(hook, owned=False)
    if hooks_apart:
        set_apart(clones[model], model)
    return clones[model], clones


def deep_copied(model: nn.Module, *beside: Any) -> tuple[Any, ...]:
    """A model and what belongs to it, all tensors copied: `copy.deepcopy`, and what that leaves bound to the original.

    Functions are copied by no copy. One that a module has in an attribute, a forward in an autocast say, would go on
    calling the original's.
    """
    copies: tuple[Any, ...] = copy.deepcopy((model, *beside))
    redirect = Redirection(dict(zip(model.modules(), copies[0].modules(), strict=True)), {})
    for module in copies[0].modules():
        for key, value in module.__dict__.items():
            if isinstance(value, (types.FunctionType, functools.partial)):
                module.__dict__[key] = redirect(value, owned=False)
    return copies


@contextmanager
def confined(clones: Mapping[nn.Module, nn.Module], names: Mapping[nn.Module, str]) -> Iterator[None]:
    """Let no module of the model itself run in this thread: a clone that reaches one would move its state.

    Raises:
        StrayError: one was about to run.
    """
    thread = threading.get_ident()

    def stop(module: nn.Module, _: Any) -> None:
        if module in clones and threading.get_ident() == thread:
            raise StrayError(names[clones[module]])

    handle = register_module_forward_pre_hook(stop)
    try:
        yield
    finally:
        handle.remove()


class StrayError(BaseException):
    """A module of the model was about to run in place of its clone; no `except Exception` may hold it up."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def own_forward(module: nn.Module) -> Callable[..., Any]:
    """A module's forward, whether it is the instance's own or its class's."""
    forward: Callable[..., Any] = module.__dict__.get("forward") or types.MethodType(type(module).forward, module)
    return forward


def _clone(module: nn.Module, attributes: dict[str, Any]) -> nn.Module:
    # Past a `__new__` of its own: an fx GraphModule's makes another class of each instance, without its forward.
    clone: nn.Module = object.__new__(Uncompiled if is_wrapper(module) else module.__class__)
    clone.__dict__.update(attributes)
    return clone


def _attributes(module: nn.Module) -> dict[str, Any]:
    """A module's own, as they are where no other division of the model answers its calls, and nothing is compiled."""
    held = module.__dict__
    if is_wrapper(module):  # what else it has is for compiling
        held = {key: value for key, value in held.items() if key in EVERY_MODULES}
    calls = {key: own_value(held[key]) for key in SLOTS if key in held}
    attributes = {key: value for key, value in held.items() if key not in calls and key != COMPILED}
    return attributes | {key: own for key, own in calls.items() if own is not None}


def _fill(
    clone: nn.Module,
    module: nn.Module,
    prefix: str,
    keep: Callable[[str], bool] | None,
    twins: dict[int, Any],
    own: tuple[bool, bool],
) -> None:
    twinned: tuple[Callable[[Tensor], Tensor], ...] = (_leaf, torch.clone)
    for kind, owned, twin in zip(("_parameters", "_buffers"), own, twinned, strict=True):
        tensors: dict[str, Tensor | None] = module.__dict__[kind]
        # If all are kept, the very same dictionary: what is assigned to the model's buffer is seen here.
        kept = tensors
        if keep is not None:
            left_out = {k: t for k, t in tensors.items() if t is not None and not keep(prefix + k)}
            if left_out:
                kept = {k: t for k, t in tensors.items() if k not in left_out}
                clone.__dict__.update(left_out)
        if owned:  # a tensor that is registered twice has one twin
            kept = {k: None if t is None else twins.setdefault(id(t), twin(t)) for k, t in kept.items()}
        clone.__dict__[kind] = kept


def _leaf(parameter: Tensor) -> Tensor:
    twin = nn.Parameter(parameter.detach(), parameter.requires_grad)
    twin.__dict__.update(parameter.__dict__)
    return twin


class Redirection:
    """Plain attributes and hooks for clones.

    They may point at modules: lists of layers, bound methods, partials, functions that close over a module, objects
    that hold some. And they may be what the model keeps for later, such as a dictionary of biases: the clone keeps
    its own, and one that several modules share is shared by their clones. What belongs to others, such as the list
    that a user's hook fills, stays the one that it is.
    """

    def __init__(self, clones: Mapping[nn.Module, nn.Module], twins: dict[int, Any]) -> None:
        self.clones = clones
        self.twins = twins  # by the identity of what they stand for

    def __call__(self, value: Any, *, owned: bool = True) -> Any:
        """The clone's rendition of a value; `owned` if the model itself holds it, and not a function or object."""
        if type(value) in PLAIN:
            return value
        if id(value) in self.twins:
            return self.twins[id(value)]
        if isinstance(value, nn.Module):
            return self.clones.get(value, value)
        if isinstance(value, types.MethodType):
            owner = self(value.__self__, owned=owned)
            return value if owner is value.__self__ else types.MethodType(value.__func__, owner)
        if isinstance(value, functools.partial):
            keywords = {key: self(item, owned=owned) for key, item in value.keywords.items()}
            arguments = [self(item, owned=owned) for item in value.args]
            return functools.partial(self(value.func, owned=owned), *arguments, **keywords)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if type(value) is tuple:
            items = tuple(self(item, owned=owned) for item in value)
            return value if all(map(operator.is_, items, value)) else items
        if type(value) in (list, set, dict):
            return self._container(value) if owned or self._holds_modules(value) else value
        return self._object(value) if owned else value

    def _holds_modules(self, container: Any) -> bool:
        items = container.values() if isinstance(container, dict) else container
        return any(isinstance(item, nn.Module) and item in self.clones for item in items)

    def _container(self, value: Any) -> Any:
        twin = self.twins[id(value)] = type(value)()  # first, so that a container that holds itself ends
        if isinstance(twin, dict):
            twin.update({key: self(item) for key, item in value.items()})
        elif isinstance(twin, set):
            twin.update(map(self, value))
        else:
            twin.extend(map(self, value))
        return twin

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        """The same code over clones, where the function closes over modules or has them among its defaults."""
        closure, defaults = function.__closure__ or (), function.__defaults__ or ()
        if not closure and not defaults:
            return function
        self.twins[id(function)] = function  # so that one that closes over itself ends
        cells = tuple(map(self._cell, closure))
        values = tuple(self(value, owned=False) for value in defaults)
        if not all(map(operator.is_, (*cells, *values), (*closure, *defaults))):
            twin = types.FunctionType(
                function.__code__, function.__globals__, function.__name__, values or None, cells or None
            )
            twin.__kwdefaults__, twin.__qualname__ = function.__kwdefaults__, function.__qualname__
            twin.__dict__.update(function.__dict__)
            self.twins[id(function)] = twin
            return twin
        return function

    def _cell(self, cell: types.CellType) -> types.CellType:
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            return cell
        twin = self(content, owned=False)
        return cell if twin is content else types.CellType(twin)

    def _object(self, value: Any) -> Any:
        """A copy of an object that holds modules of the model; of torch's own, none runs what it holds."""
        held = getattr(value, "__dict__", None)
        if type(held) is not dict or isinstance(value, (Tensor, types.ModuleType)):
            return value
        if type(value).__module__.partition(".")[0] == "torch":
            return value
        self.twins[id(value)] = value  # while it is looked into
        changed = {key: twin for key, item in held.items() if (twin := self(item, owned=False)) is not item}
        if changed:
            try:
                twin = copy.copy(value)
                twin.__dict__.update(changed)
            except Exception:  # one that cannot be copied stays: if its modules run, `confined` tells
                return value
            self.twins[id(value)] = twin
        return self.twins[id(value)]
