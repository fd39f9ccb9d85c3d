"""What the layers of a frozen front are beside their tensors, and whether that is changed behind the freeze."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import is_
from typing import Any

import torch
from torch import nn

from ..augment import forked_random_states
from ..cache import hash_tensors
from ..cuts import Example, Prefix, called, count_of, seed_randomness, taken
from ..provenance import code_of, describe_module, is_plain

__all__ = ["FrontLayers"]

Told = dict[str, dict[str, Any]]

_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_NONE = object()
_OURS = frozenset({"train"})
"""Attributes that a freeze sets."""


class FrontLayers:
    """Remembers what a frozen front's layers were: which they are, their attributes and hooks, the code that they run.

    An attribute, a hook or a layer that acts in front alone counts as soon as it is another. What the layers themselves
    leave behind when they run, a count of calls or the last mean, does not. Attributes of what holds both sides of the
    cut, and code that is reached by name, may have nothing to do with the front: they count where its output on the
    example differs by them.

    Args:
        example: as the model takes it.
    """

    def __init__(self, prefix: Prefix, example: Example) -> None:
        self.prefix, self._example = prefix, example
        self._names = prefix.module_names
        self._around = sorted({"", *_above(self._names)} - set(self._names))
        self._moving: set[tuple[str, str]] = set()
        self._output = self._run(example)
        self._look()

    def touched(self) -> bool:
        """Whether layers, classes, hooks or plain attributes in front are other objects than before: microseconds."""
        holders, keys, values = self._marks
        if not all(map(is_, map(dict.get, holders, keys), values)):
            return True
        if list(map(type, self._there)) != self._classes:
            return True
        return list(map(tuple, map(dict.values, self._lists))) != self._contents

    def changed(self, *, exactly: bool = False) -> tuple[str, ...]:
        """Names of what is no longer as it was when this was last asked.

        Args:
            exactly: look at everything, a few milliseconds; else only where something was touched.
        """
        if not exactly and not self.touched():
            return ()
        before, layers, hooks, code = self._told, self._layers, self._hooks, self._code
        self._look()
        found = [name for name in self._names if self._layers[name] is not layers[name]]
        same = [name for name in self._names if name not in found]
        found += [f"{name} (hook)" for name in same if self._hooks[name] != hooks[name]]
        other = {name: _differing(before[name], self._told[name], self._moving, name) for name in same}
        certain, perhaps = self._sorted_out(other)
        found += certain
        around = {name: _differing(before[name], self._told[name], self._moving, name) for name in self._around}
        perhaps += [f"{name}.{key}".lstrip(".") for name, keys in around.items() for key in keys]
        perhaps += [f"{name} (code)" for name in sorted(_differing(code, self._code, set(), ""))]
        if found or not perhaps:
            return tuple(found)
        self._hand_over(around)
        return tuple(perhaps) if self._run(self._example) != self._output else ()

    def _look(self) -> None:
        """All of it, as it is now."""
        whole = dict(self.prefix.whole.named_modules(remove_duplicate=False))
        self._layers = {name: whole.get(name) for name in self._names}
        modules = {name: whole[name] for name in (*self._names, *self._around) if name in whole}
        nothing: Told = {name: {} for name in (*self._names, *self._around)}
        self._told = nothing | _described(modules)
        self._hooks = {name: _hooks_of(module) for name, module in self._layers.items()}
        self._code = code_of([], modules=modules.values())
        there = {name: module for name, module in self._layers.items() if module is not None}
        marks = [*_places(there, whole), *self._attributes(there)]
        self._marks = tuple(map(list, zip(*marks, strict=True))) if marks else ([], [], [])
        self._there = list(there.values())
        self._classes = list(map(type, self._there))
        self._lists = [m.__dict__[kind] for m in there.values() for kind in _HOOKS]
        self._lists += [m._modules for m in there.values() if m._modules]
        self._contents = list(map(tuple, map(dict.values, self._lists)))

    def _attributes(self, modules: dict[str, nn.Module]) -> Iterator[tuple[dict[str, Any], str, Any]]:
        """Those that are plain values, and a forward of an object's own."""
        for name, module in modules.items():
            yield module.__dict__, "forward", module.__dict__.get("forward")
            for key in self._told[name].keys() & module.__dict__.keys():
                value = module.__dict__[key]
                if (name, key) not in self._moving and isinstance(value, (bool, int, float, str, tuple, type(None))):
                    yield module.__dict__, key, value

    def _sorted_out(self, other: dict[str, set[str]]) -> tuple[list[str], list[str]]:
        """Attributes that differ: those that somebody has set, and those that the prefix has as well, which may be what
        running leaves behind. What moves when it runs is neither, from now on."""
        other = {name: keys for name, keys in other.items() if keys}
        if not other:
            return [], []
        bodies = {name: self.prefix.body.get_submodule(name) for name in other}
        mine = _described(bodies)
        self._run(taken(self._example, max(1, count_of(self._example) // 2)))
        few = _described(bodies)
        self._run(self._example)
        many = _described(bodies)
        certain: list[str] = []
        perhaps: list[str] = []
        for name, keys in other.items():
            for key in sorted(keys):
                seen = [told[name].get(key, _NONE) for told in (mine, few, many)]
                if any(value != seen[0] for value in seen):
                    self._moving.add((name, key))
                else:
                    alike = seen[0] == self._told[name].get(key, _NONE)
                    (perhaps if alike else certain).append(f"{name}.{key}")
        return certain, perhaps

    def _hand_over(self, around: dict[str, set[str]]) -> None:
        """The prefix's own bodies of what holds both sides get the attributes as they are now."""
        for name, keys in around.items():
            module, body = self.prefix.whole.get_submodule(name), self.prefix.body.get_submodule(name)
            for key in keys & module.__dict__.keys():
                if is_plain(module.__dict__[key]):
                    body.__dict__[key] = module.__dict__[key]

    def _run(self, example: Example) -> str:
        """A hash of what the prefix gives for it, in the same random state each time."""
        device = next((t.device for t in self.prefix.state_dict().values()), torch.device("cpu"))
        gpus = [device] if device.type == "cuda" else []
        with forked_random_states(), torch.random.fork_rng(gpus), torch.no_grad(), self.prefix.hooks_apart():
            seed_randomness(0, example)
            outputs = self.prefix.cut.rows_of(called(self.prefix, example))
        return hash_tensors({str(number): tensor for number, tensor in enumerate(outputs)})


def _described(modules: dict[str, nn.Module]) -> Told:
    return {
        name: describe_module(module, {*_OURS, *module._parameters, *module._buffers})
        for name, module in modules.items()
    }


def _differing(before: dict[str, Any], now: dict[str, Any], without: set[tuple[str, str]], name: str) -> set[str]:
    keys = before.keys() | now.keys()
    return {key for key in keys if before.get(key, _NONE) != now.get(key, _NONE) and (name, key) not in without}


def _hooks_of(module: nn.Module | None) -> tuple[Any, ...]:
    return () if module is None else tuple(hook for kind in _HOOKS for hook in module.__dict__[kind].values())


def _places(modules: dict[str, nn.Module], whole: dict[str, nn.Module]) -> Iterator[tuple[Any, str, nn.Module]]:
    """Where each is kept by what holds it."""
    for name, module in modules.items():
        holder, _, key = name.rpartition(".")
        if name:
            yield whole[holder]._modules, key, module


def _above(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from (name.rsplit(".", k)[0] for k in range(1, name.count(".") + 1))
