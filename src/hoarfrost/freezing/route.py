"""The model called as ever: with features it takes up its forward at the cut, with inputs it runs whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..cuts import Dispatcher, dispatch

__all__ = ["Route"]


class Route:
    """Answers calls of a model: those that `wants` says are passed on, all others run the model itself.

    Args:
        wants: of a call's positional arguments and keywords.
        run: what is passed on to; where it calls the model in turn, that is the model itself.
    """

    def __init__(
        self, model: nn.Module, wants: Callable[[tuple[Any, ...], dict[str, Any]], bool], run: Callable[..., Any]
    ) -> None:
        self._wants, self._run = wants, run
        self._within = threading.local()
        compiled = model.__dict__.get("_compiled_call_impl") is not None
        self._there = dispatch(model, self, ("_compiled_call_impl",)) if compiled else dispatch(model, self)

    @property
    def active(self) -> bool:
        """Whether this thread is not inside a call that was passed on."""
        return not getattr(self._within, "depth", 0)

    def __call__(self, dispatcher: Dispatcher, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        with self._entered():
            if self._wants(inputs, keywords):
                return self._run(*inputs, **keywords)
            return dispatcher.own(*inputs, **keywords)

    @contextmanager
    def _entered(self) -> Iterator[None]:
        self._within.depth = 1
        try:
            yield
        finally:
            self._within.depth = 0

    def close(self) -> None:
        """The model's calls are its own again."""
        while self._there:
            self._there.pop().dismiss(self)
