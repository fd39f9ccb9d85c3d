"""Ctrl-C and SIGTERM: heard between two steps, and held back while a file is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["held_back", "interruptible"]

SIGNALS = signal.SIGINT, signal.SIGTERM


@contextmanager
def interruptible(heard: Callable[[], None] | None = None) -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C (or SIGTERM) into a question that the loop asks between two steps.

    A second one interrupts at once. Outside the main thread nothing is caught.

    Args:
        heard: called at the first one, in the signal handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        if heard is not None:
            heard()

    previous = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """Holds back one Ctrl-C (or SIGTERM) until the block ends, so that what it writes is written; a second one passes.

    Outside the main thread nothing is caught.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)
        if len(held) > 1:
            let_through()

    def let_through() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)
        while held:
            signal.raise_signal(held.pop(0))

    previous = {number: signal.signal(number, hold) for number in SIGNALS}
    try:
        yield
    finally:
        let_through()
