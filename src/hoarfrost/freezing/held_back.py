"""Ctrl-C and SIGTERM, held back while something is done that must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["SIGNALS", "held_back"]

SIGNALS = signal.SIGINT, signal.SIGTERM


@contextmanager
def held_back() -> Iterator[None]:
    """Holds back one Ctrl-C (or SIGTERM) until the block ends, so that what it does is done whole; a second one passes.

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

    # What a program around Python listens to itself could not be given back.
    previous = {number: signal.signal(number, hold) for number in SIGNALS if signal.getsignal(number) is not None}
    try:
        yield
    finally:
        let_through()
