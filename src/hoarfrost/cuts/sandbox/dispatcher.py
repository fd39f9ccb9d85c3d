"""A module's calls, answered by a stand-in while one is at work, and by the module itself at all other times."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Protocol

from torch import nn

__all__ = ["COMPILED", "SLOTS", "Dispatcher", "StandIn", "dispatch", "own_value"]

SLOTS = ("_call_impl", "forward")
"""Where a call of a module comes by: first what runs its hooks around the forward, then the forward itself.

Who answers in the first runs no hooks. The second is for code that calls `layer.forward(x)`.
"""
COMPILED = "_compiled_call_impl"
"""Where it comes by before both, and then by neither, in a module that is compiled in place."""


class StandIn(Protocol):
    """Answers a module's calls."""

    @property
    def active(self) -> bool:
        """Whether it is at work, in this thread."""

    def __call__(self, dispatcher: Dispatcher, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """What the module gives; `dispatcher.own` runs the module itself."""


class Dispatcher:
    """Lies in one slot of a module's own `__dict__`, and hands each call to the stand-in that is at work, if one is.

    In copies and pickles of the module the module's own method is in its place.
    """

    def __init__(self, module: nn.Module, slot: str) -> None:
        self.module = module
        self.slot = slot
        self.held = module.__dict__.get(slot)
        self.stand_ins: list[StandIn] = []

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        for stand_in in self.stand_ins:
            if stand_in.active:
                return stand_in(self, inputs, keywords)
        return self.own(*inputs, **keywords)

    def own(self, *inputs: Any, **keywords: Any) -> Any:
        """What would run without the dispatcher."""
        if self.held is not None:
            return self.held(*inputs, **keywords)
        if self.slot == "forward":
            return type(self.module).forward(self.module, *inputs, **keywords)
        return type(self.module)._call_impl(self.module, *inputs, **keywords)  # type: ignore[no-untyped-call]

    @property
    def _method(self) -> Any:
        return types.MethodType(getattr(type(self.module), self.slot), self.module) if self.held is None else self.held

    # To whoever looks (inspect.signature, torch.jit.script) it is the module's own method.

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._method)

    def __getattr__(self, name: str) -> Any:
        return self._method if name == "__wrapped__" else getattr(self._method, name)

    def dismiss(self, stand_in: StandIn) -> None:
        """Without it; behind the last one the slot is as it was."""
        self.stand_ins.remove(stand_in)
        if not self.stand_ins and self.module.__dict__.get(self.slot) is self:
            if self.held is None:
                del self.module.__dict__[self.slot]
            else:
                self.module.__dict__[self.slot] = self.held

    def __reduce__(self) -> Any:
        # A module that is being copied has no attributes yet, so that this is its class's method.
        return (getattr, (self.module, self.slot)) if self.held is None else (_itself, (self.held,))


def dispatch(module: nn.Module, stand_in: StandIn, slots: Sequence[str] = SLOTS) -> list[Dispatcher]:
    """Let a stand-in answer the module's calls whenever it is active; returns where it was put.

    Args:
        slots: which calls.
    """
    there = []
    for slot in slots:
        dispatcher = module.__dict__.get(slot)
        if not isinstance(dispatcher, Dispatcher):
            dispatcher = module.__dict__[slot] = Dispatcher(module, slot)
        dispatcher.stand_ins.append(stand_in)
        there.append(dispatcher)
    return there


def own_value(held: Any) -> Any:
    """What an attribute of a module is, dispatchers apart: None where it has none of its own."""
    while isinstance(held, Dispatcher):
        held = held.held
    return held


def _itself(value: Any) -> Any:
    return value
