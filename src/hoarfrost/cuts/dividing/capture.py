"""Catching the tensors that cross a cut as the model's modules give them, and leaving the model's forward there."""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..sandbox.hooks import has_hooks
from ..sandbox.pytrees import tensors_in
from ..tracing.trace import Port

__all__ = ["Catch", "Reached", "Shown"]


class Reached(BaseException):
    """Leaves the model's forward at the cut; no `except Exception` on the way may hold it up."""


class Catch:
    """The tensors that one pass has given at the ports so far.

    Args:
        ports: where.
        before: calls of modules that the pass leaves out at its beginning.
    """

    def __init__(self, ports: tuple[Port, ...], before: Mapping[str, int] | None = None) -> None:
        self.ports = ports
        self.before = dict(before or {})
        self.calls: Counter[str] = Counter(self.before)
        self.running: list[int] = []
        self.caught: dict[Port, Tensor] = {}

    def clear(self) -> None:
        self.calls = Counter(self.before)
        self.running.clear()
        self.caught.clear()

    def begin(self, name: str) -> None:
        """A module is called. It may call itself before it ends, so calls are counted from their beginnings."""
        self.running.append(self.calls[name])
        self.calls[name] += 1

    def see(self, name: str, output: Any) -> None:
        """A module has given `output`; at the cut the pass ends."""
        call = self.running.pop()
        for port in self.ports:
            if port[:2] == (name, call):
                self.caught[port] = tensors_in(output)[port[2]]
        if self.ports[0][:2] == (name, call):
            raise Reached

    def features(self) -> tuple[Tensor, ...]:
        """What was caught, the features first; kept no longer."""
        features = tuple(self.caught[port] for port in self.ports)
        self.clear()
        return features

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "calls": Counter(self.before), "running": [], "caught": {}}


class Shown:
    """Shows a module's output to the catch: in place of its forward, or as its last hook where it has hooks.

    Torch's fused transformer layers take another way, with other bits, as soon as a hook is in them.
    """

    def __init__(self, module: nn.Module, name: str, catch: Catch) -> None:
        self.module = module
        self.name = name
        self.catch = catch
        self.own_forward = module.__dict__.get("forward")

    @classmethod
    def at(cls, module: nn.Module, name: str, catch: Catch) -> None:
        shown = cls(module, name, catch)
        if has_hooks(module):
            module.register_forward_pre_hook(shown.begin, prepend=True)
            module.register_forward_hook(shown.hook)
        else:
            module.__dict__["forward"] = shown

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        forward = self.own_forward or types.MethodType(type(self.module).forward, self.module)
        self.catch.begin(self.name)
        output = forward(*inputs, **keywords)
        self.catch.see(self.name, output)
        return output

    def begin(self, module: nn.Module, inputs: Any) -> None:
        self.catch.begin(self.name)

    def hook(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.catch.see(self.name, output)
