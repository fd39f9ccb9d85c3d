"""Operations on the files of a run: counted, and the process killed in front of one of them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

__all__ = ["watch"]

AUDITED = {"open", "os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.truncate"}
"""Python tells of these itself, with a path."""

BY_DESCRIPTOR = ("fsync", "pwrite", "pread", "ftruncate")
"""Of these it does not."""


class _Counter:
    def __init__(self, folder: Path, at: int | None) -> None:
        self.folder, self.at, self.count = os.fspath(folder), at, 0
        self._lock = threading.Lock()

    def next(self) -> None:
        with self._lock:
            self.count += 1
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)

    def heard(self, event: str, told: tuple[Any, ...]) -> None:
        if event in AUDITED and isinstance(told[0], str | os.PathLike) and os.fspath(told[0]).startswith(self.folder):
            self.next()


def watch(folder: Path, at: int | None = None) -> _Counter:
    """Count what this process does to files under a folder, until it ends.

    Args:
        at: the operation in front of which it is killed, from 1; None: none.
    """
    counter = _Counter(folder, at)
    sys.addaudithook(counter.heard)
    for name in BY_DESCRIPTOR:
        setattr(os, name, _counted(counter, getattr(os, name)))
    return counter


def _counted(counter: _Counter, real: Any) -> Any:
    def counted(*told: Any) -> Any:
        counter.next()
        return real(*told)

    return counted
