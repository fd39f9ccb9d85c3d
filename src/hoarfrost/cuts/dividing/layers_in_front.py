"""What is changed in front of a cut after the division, and would not be followed: noticed at the next call."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from ...errors import FrontChangedError

__all__ = ["LayersInFront"]

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class LayersInFront:
    """Holds what the modules in front were made of when the model was divided against what they are made of now.

    Args:
        place: the cut, for messages.
        modules: the model's, by name, under each of their names.
        front: names of those in front, and of those that are answered for there.
    """

    def __init__(self, place: str, modules: dict[str, nn.Module], front: Iterable[str]) -> None:
        self.place = place
        meant = {modules[name] for name in front}
        in_front = {module: name for name, module in reversed(modules.items()) if module in meant}
        above = {name.rpartition(".")[0] for name, module in modules.items() if module in in_front}
        above |= {path[:end] for path in above for end, letter in enumerate(path) if letter == "."}
        self.front = {name: module for module, name in reversed(in_front.items())}
        # Where all children lie in front their number counts too: one that is added would not run.
        self.paths = [name for name, module in self.front.items() if module._modules]
        self.whole = [self.front[name]._modules for name in self.paths]
        self.contents = [tuple(children.values()) for children in self.whole]
        inside = {name for name in modules if name and modules[_parent(name)] in in_front}
        self.names = [n for n, m in modules.items() if n and n not in inside and (m in in_front or n in above)]
        self.holders = [modules[_parent(name)]._modules for name in self.names]
        self.keys = [name.rpartition(".")[2] for name in self.names]
        self.children = [modules[name] for name in self.names]
        self.known = {name: _hooks_of(module) for name, module in self.front.items()}
        self.handles = _handles()

    def check(self) -> None:
        """Compare; a few microseconds.

        Raises:
            FrontChangedError: a layer was replaced, added or taken out.
        """
        if list(map(dict.get, self.holders, self.keys)) != self.children:
            self._refuse()
        if list(map(tuple, map(dict.values, self.whole))) != self.contents:
            self._refuse()
        if self.handles != _handles():  # torch numbers its hooks, all of them
            self.handles = _handles()
            self._warn()

    def _refuse(self) -> None:
        changed = [
            name
            for name, holder, key, child in zip(self.names, self.holders, self.keys, self.children, strict=True)
            if holder.get(key) is not child
        ]
        for path, children, before in zip(self.paths, self.whole, self.contents, strict=True):
            if tuple(children.values()) != before:
                changed += [f"{path}.{key}" for key, child in children.items() if child not in before] or [path]
        raise FrontChangedError(
            f"'{changed[0]}' is no longer what it was when the model was divided: it lies in front of the cut "
            f"'{self.place}', whose features were made with the layer from before. Put that back, or replace layers "
            f"behind the cut only"
        )

    def _warn(self) -> None:
        found = []
        for name, module in self.front.items():
            hooks = _hooks_of(module)
            if hooks - self.known[name]:
                found.append(name)
            self.known[name] = hooks
        if found:
            warnings.warn(
                f"hoarfrost: a hook was registered on {', '.join(map(repr, found))}, in front of the cut "
                f"'{self.place}': it runs when the model itself is called, and not while what is behind the cut trains",
                stacklevel=4,
            )


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _hooks_of(module: nn.Module) -> frozenset[tuple[str, Any]]:
    return frozenset((kind, number) for kind in HOOKS for number in module.__dict__[kind])


def _handles() -> int:
    return RemovableHandle.next_id
