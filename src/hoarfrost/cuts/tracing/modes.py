"""Who asks whether a module is in train or in eval, and when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["mode_reads"]

Note = Callable[[nn.Module], None]


class Mode:
    """Stands for `training` in the class of all modules: it lies in the module itself as ever, but reading it is told.

    What a class puts in the place of it goes before this one.
    """

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def __get__(self, module: nn.Module | None, owner: type[nn.Module]) -> Any:
        if module is None:
            return self
        try:
            mode = module.__dict__["training"]
        except KeyError:  # then it is for the module's `__getattr__`
            raise AttributeError(f"'{owner.__name__}' object has no attribute 'training'") from None
        for note in self.notes:
            note(module)
        return mode

    def __set__(self, module: nn.Module, mode: bool) -> None:
        module.__dict__["training"] = mode

    def __delete__(self, module: nn.Module) -> None:
        del module.__dict__["training"]


_mode = Mode()
_lock = threading.Lock()


@contextmanager
def mode_reads(note: Note) -> Iterator[None]:
    """Be told of each module whose `training` is read meanwhile in this thread."""
    thread = threading.get_ident()

    def told(module: nn.Module) -> None:
        if threading.get_ident() == thread:
            note(module)

    with _lock:
        _mode.notes = [*_mode.notes, told]
        nn.Module.training = _mode  # type: ignore[assignment]
    try:
        yield
    finally:
        with _lock:
            _mode.notes = [other for other in _mode.notes if other is not told]
            if not _mode.notes:
                del nn.Module.training
