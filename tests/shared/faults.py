"""What can befall the files of a cache: really done to them, or by the system's own answers to those who ask it."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hoarfrost.cache.files import is_key
from hoarfrost.cache.locking import CacheLock

__all__ = ["FAULTS", "Fault"]

Fault = Callable[[Path], None]
"""Does something to a directory of caches, once."""

CHANGES = ("mkdir", "rename", "replace", "unlink", "rmdir", "pwrite", "ftruncate", "fsync")
READS = ("pread",)


@contextmanager
def refusing(root: Path, number: int, names: tuple[str, ...], opening: Callable[[int], bool]) -> Iterator[None]:
    """The system answers with an error to calls of `os` that touch what lies under `root`.

    Args:
        opening: whether a file may not be opened with these flags.
    """

    def touched(target: Any) -> bool:
        if isinstance(target, int):
            try:
                target = Path(f"/proc/self/fd/{target}").readlink()
            except OSError:
                return False
        return str(root) in os.fspath(target)

    def refused(target: Any) -> OSError:
        return OSError(number, os.strerror(number), str(target))

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *rest: Any, **more: Any) -> Any:
            if touched(target):
                raise refused(target)
            return real(target, *rest, **more)

        return call

    real_open, real_io = os.open, io.open

    def low_open(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if opening(flags) and touched(path):
            raise refused(path)
        return real_open(path, flags, *rest, **more)

    def high_open(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        flags = os.O_RDONLY if mode.strip("bt") == "r" else os.O_WRONLY | os.O_CREAT
        if not isinstance(path, int) and opening(flags) and touched(path):
            raise refused(path)
        return real_io(path, mode, *rest, **more)

    with ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(os, name, guarded(getattr(os, name))))
        stack.enter_context(patch.object(os, "open", low_open))
        stack.enter_context(patch.object(io, "open", high_open))
        stack.enter_context(patch.object(builtins, "open", high_open))
        yield


def writes(flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def anyhow(flags: int) -> bool:
    return True


@contextmanager
def removed(root: Path) -> Iterator[None]:
    shutil.rmtree(root)
    yield


@contextmanager
def damaged(root: Path) -> Iterator[None]:
    """Every file of every cache holds other bytes."""
    for path in root.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            path.write_bytes(bytes(byte ^ 0xA5 for byte in path.read_bytes()))
    yield


@contextmanager
def emptied(root: Path) -> Iterator[None]:
    """Every file of every cache is gone, the directories stand."""
    for path in root.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            path.unlink()
    yield


@contextmanager
def a_file_in_its_place(root: Path) -> Iterator[None]:
    shutil.rmtree(root)
    root.write_bytes(b"")
    yield


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Somebody else holds the lock of every cache that is there, or being built."""
    keys = {path.name.removeprefix("building-") for path in root.rglob("*") if path.is_dir()}
    with ExitStack() as stack, patch("hoarfrost.cache.cache.HEAL_WAIT_SECONDS", 0.0):
        for key in filter(is_key, keys):
            for place in (root, root / "evaluation"):
                if (place / key).exists():
                    stack.enter_context(CacheLock(place, key))
        yield


def full(root: Path) -> Any:
    return refusing(root, errno.ENOSPC, ("mkdir", "pwrite", "fsync"), lambda flags: bool(flags & os.O_CREAT))


def read_only(root: Path) -> Any:
    return refusing(root, errno.EROFS, CHANGES, writes)


def another_users(root: Path) -> Any:
    return refusing(root, errno.EACCES, (*CHANGES, "listdir", "scandir"), anyhow)


def bad_sectors(root: Path) -> Any:
    return refusing(root, errno.EIO, READS, lambda flags: False)


FAULTS: dict[str, Callable[[Path], Any]] = {
    "removed": removed,
    "damaged": damaged,
    "emptied": emptied,
    "a file in its place": a_file_in_its_place,
    "locked": locked,
    "full": full,
    "read-only": read_only,
    "another user's": another_users,
    "bad sectors": bad_sectors,
}
