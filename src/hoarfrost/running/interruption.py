"""Ctrl-C and SIGTERM, heard between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ..freezing import SIGNALS

__all__ = ["interruptible"]


@contextmanager
def interruptible(heard: Callable[[], None] | None = None, echo_seconds: float = 0.0) -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C (or SIGTERM) into a question that the loop asks between two steps.

    A second one interrupts at once. Outside the main thread nothing is caught.

    Args:
        heard: called at the first one, in the signal handler.
        echo_seconds: a second one is heard from then on: a launcher passes on what a terminal has told already.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked: float | None = None

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        now = time.monotonic()
        if asked is not None:
            if now - asked >= echo_seconds:
                raise KeyboardInterrupt
            return
        asked = now
        if heard is not None:
            heard()

    previous = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield lambda: asked is not None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
