"""Hooks of the user's that run along where a model is only looked at: they work on copies of what they keep.

A hook may be part of the model or only watch it, and which it is cannot be told without calling it. So it is called, as
the same code over other variables: what it counts and collects there is forgotten.
"""

from __future__ import annotations

import copy
import random
import sys
import sysconfig
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["HOOKS", "has_hooks", "hooks_apart", "set_apart"]

CALLED = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)
MANY = 1000
"""What a longer list or dictionary holds is not copied; the list is."""

_OURS = __name__.partition(".")[0]
_PACKAGES = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib"))


def has_hooks(module: nn.Module) -> bool:
    """Whether a module's forward has hooks: then its output is what the last of them gives."""
    return any(len(module.__dict__.get(kind, ())) for kind in HOOKS)


@contextmanager
def hooks_apart(model: nn.Module, *others: nn.Module) -> Iterator[None]:
    """Whatever hooks of a model count or collect meanwhile, they do on copies; see `set_apart`."""
    there = [module for module in model.modules() if any(module.__dict__.get(kind) for kind in CALLED)]
    held = [(module, kind, module.__dict__[kind]) for module in there for kind in CALLED]
    set_apart(model, *others)
    try:
        yield
    finally:
        for module, kind, hooks in held:
            module.__dict__[kind] = hooks


def set_apart(model: nn.Module, *others: nn.Module) -> None:
    """Replace a model's hooks by the same code over copies of what they keep.

    What the model itself holds or reads stays the one that it is: its modules and tensors, their attributes, and what
    their `forward` reaches by name.

    Args:
        model: a second body, or the user's own for as long as it is borrowed.
        others: models of which all that they hold stays too: the one that `model` is a body of.
    """
    there = [module for module in model.modules() if any(module.__dict__.get(kind) for kind in CALLED)]
    if not there:
        return
    copies = _Copies(value for held in (model, *others) for value in _held_by(held))
    for module in there:
        for kind in CALLED:
            hooks = module.__dict__[kind]
            if hooks:
                module.__dict__[kind] = type(hooks)((number, copies(hook)) for number, hook in hooks.items())


class _Copies:
    """Copies of what functions, methods and objects keep, each made once.

    Containers, tensors, arrays and random generators are copied, and objects of the user's own classes; functions get
    variables of their own. Of packages and of us, objects stay, and so do files and what else cannot be copied.
    """

    def __init__(self, stay: Iterable[Any]) -> None:
        self.known = {id(value): (value, value) for value in stay}
        self.globals: dict[int, dict[str, Any]] = {}

    def __call__(self, value: Any) -> Any:
        """The copy that stands for it."""
        if id(value) in self.known:
            return self.known[id(value)][1]
        for kinds, way in self._ways:
            if isinstance(value, kinds):
                return way(self, value)
        return self._object(value)

    def _keep(self, value: Any, twin: Any) -> Any:
        self.known[id(value)] = (value, twin)
        return twin

    def _function(self, function: types.FunctionType) -> Any:
        named = function.__globals__.get("__name__", "")
        if named.partition(".")[0] == _OURS:
            return function
        own, cells = _is_own(named), tuple(map(self._cell, function.__closure__ or ()))
        known = self.globals.setdefault(id(function.__globals__), dict(function.__globals__)) if own else {}
        around = known if own else function.__globals__
        twin = types.FunctionType(function.__code__, around, function.__name__, None, cells or None)
        self._keep(function, twin)
        for name in _names(function.__code__) & known.keys():
            known[name] = self(function.__globals__[name])
        twin.__defaults__ = None if function.__defaults__ is None else tuple(map(self, function.__defaults__))
        twin.__kwdefaults__ = {key: self(item) for key, item in (function.__kwdefaults__ or {}).items()}
        twin.__qualname__, twin.__module__ = function.__qualname__, function.__module__
        twin.__dict__.update({key: self(item) for key, item in function.__dict__.items()})
        return twin

    def _cell(self, cell: types.CellType) -> types.CellType:
        if id(cell) in self.known:
            return self.known[id(cell)][1]  # type: ignore[no-any-return]
        twin = self._keep(cell, types.CellType())
        with suppress(ValueError):  # not filled yet
            twin.cell_contents = self(cell.cell_contents)
        return twin  # type: ignore[no-any-return]

    def _method(self, method: types.MethodType) -> Any:
        return types.MethodType(method.__func__, self(method.__self__))

    def _builtin(self, method: types.BuiltinMethodType) -> Any:
        owner = method.__self__
        twin = owner if owner is None or isinstance(owner, types.ModuleType) else self(owner)
        return method if twin is owner else getattr(twin, method.__name__)

    def _partial(self, value: partial[Any]) -> Any:
        return partial(self(value.func), *map(self, value.args), **{k: self(v) for k, v in value.keywords.items()})

    def _mapping(self, value: Any) -> Any:
        twin = self._keep(value, copy.copy(value))
        if len(value) <= MANY:
            for key, item in value.items():
                twin[key] = self(item)
        return twin

    def _sequence(self, value: Any) -> Any:
        """What was collected in a list stays, tensors above all."""
        twin = self._keep(value, copy.copy(value))
        if len(value) <= MANY and not isinstance(value, (set, bytearray)):
            for number, item in enumerate(value):
                twin[number] = item if isinstance(item, Tensor) else self(item)
        return twin

    def _tuple(self, value: tuple[Any, ...]) -> Any:
        twins = [item if isinstance(item, Tensor) else self(item) for item in value]
        return tuple(twins) if type(value) is tuple else value

    def _tensor(self, value: Tensor) -> Any:
        twin = value.detach().clone()
        if isinstance(value, nn.Parameter):
            return self._keep(value, nn.Parameter(twin, value.requires_grad))
        return self._keep(value, twin.requires_grad_(value.requires_grad))

    def _generator(self, value: torch.Generator) -> Any:
        twin = self._keep(value, torch.Generator(value.device))
        return twin.set_state(value.get_state())

    def _deeply(self, value: Any) -> Any:
        return self._keep(value, copy.deepcopy(value))

    def _handle(self, value: RemovableHandle) -> Any:
        """A hook that removes itself is removed from nowhere."""
        twin = object.__new__(RemovableHandle)
        twin.__dict__.update(value.__dict__, hooks_dict_ref=weakref.ref(deque()), extra_dict_ref=())
        return self._keep(value, twin)

    def _object(self, value: Any) -> Any:
        held, kind = getattr(value, "__dict__", None), type(value)
        theirs = isinstance(value, (nn.Module, types.SimpleNamespace)) or _is_own(kind.__module__)
        if type(held) is not dict or not theirs or hasattr(kind, "__del__"):
            return value
        try:
            twin = object.__new__(kind) if isinstance(value, nn.Module) else copy.copy(value)
        except Exception:  # one that cannot be copied stays
            return value
        if twin is not value:
            self._keep(value, twin)
            twin.__dict__.update({key: self(item) for key, item in held.items()})
        return twin

    _same: Callable[..., Any] = staticmethod(lambda _, value: value)
    _ways: tuple[tuple[Any, Callable[..., Any]], ...] = (
        ((type, types.ModuleType, str, bytes, int, float, complex, type(None)), _same),
        (types.FunctionType, _function),
        (types.MethodType, _method),
        (types.BuiltinMethodType, _builtin),
        (partial, _partial),
        (Tensor, _tensor),
        (dict, _mapping),
        ((list, deque, set, bytearray), _sequence),
        (tuple, _tuple),
        (torch.Generator, _generator),
        ((random.Random, np.random.Generator, np.random.RandomState, np.ndarray), _deeply),
        (RemovableHandle, _handle),
    )


def _held_by(model: nn.Module) -> Iterator[Any]:
    """What stays: all that the modules hold, and what their forward reaches by name."""
    for module in model.modules():
        yield module
        yield from module.__dict__["_parameters"].values()
        yield from module.__dict__["_buffers"].values()
        for key, value in module.__dict__.items():
            if key not in CALLED:
                yield from _within(value)
        forward = module.__dict__.get("forward") or type(module).forward
        function = getattr(forward, "__func__", forward)
        if isinstance(function, types.FunctionType) and _is_own(function.__globals__.get("__name__", "")):
            yield from _reached(function)


def _within(value: Any) -> Iterator[Any]:
    if isinstance(value, (types.ModuleType, type)):
        return
    yield value
    if isinstance(value, (list, tuple, set, dict)) and len(value) <= MANY:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _within(item)


def _reached(function: types.FunctionType) -> Iterator[Any]:
    """Objects that a function closes over or names, functions apart."""
    found = [function.__globals__[name] for name in _names(function.__code__) & function.__globals__.keys()]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    yield from (value for value in found if not isinstance(value, (types.FunctionType, types.ModuleType, type)))


def _names(code: types.CodeType) -> set[str]:
    within = (_names(part) for part in code.co_consts if isinstance(part, types.CodeType))
    return set(code.co_names).union(*within)


@lru_cache(maxsize=1024)
def _is_own(module: str) -> bool:
    """Whether a module is the user's own file, no package's and none of ours."""
    if module.partition(".")[0] == _OURS or module in sys.builtin_module_names:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or not file.startswith(_PACKAGES)
