"""Files of a cache: their names, and reading and writing them so that a crash leaves the old state or the
new.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import BudgetError, CacheDirectoryError

__all__ = [
    "BUILDING_FILE",
    "FEATURES_FILE",
    "JOURNAL_FILE",
    "MANIFEST_FILE",
    "TARGETS_FILE",
    "building_path",
    "directory_errors",
    "directory_nbytes",
    "discard_path",
    "file_size",
    "foreign_file",
    "fsync_directory",
    "is_key",
    "read_at",
    "read_file_at",
    "read_json",
    "remove_tree",
    "write_at",
    "write_json",
]

MANIFEST_FILE = "manifest.json"
BUILDING_FILE = "building.json"
JOURNAL_FILE = "journal.jsonl"
FEATURES_FILE = "features.bin"
TARGETS_FILE = "targets.bin"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_key(name: str) -> bool:
    """Whether a directory is named as a cache's is: 16 hexadecimal digits."""
    return re.fullmatch("[0-9a-f]{16}", name) is not None


def building_path(root: Path, key: str) -> Path:
    return root / f"building-{key}"


def discard_path(root: Path, key: str) -> Path:
    """Where a cache steps aside before its files go."""
    return root / f"discard-{key}"


@contextmanager
def directory_errors(path: Path, doing: str, needed: int | None = None) -> Iterator[None]:
    """Turns an `OSError` into the named error of a cache directory.

    Raises:
        BudgetError: the disk or the quota is full; says what was needed and what is left.
        CacheDirectoryError: anything else; says what was being done, where, and the system's reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            amount = "space" if needed is None else f"{needed:,} bytes"
            raise BudgetError(
                f"{doing} in {path} needs {amount}, but {_free(path)} ({error.strerror}); nothing was made visible"
            ) from error
        reason = error.strerror or str(error)
        raise CacheDirectoryError(f"{doing} failed in the cache directory {path}: {reason}") from error


def _free(path: Path) -> str:
    for place in (path, *path.parents):
        with suppress(OSError):
            return f"{shutil.disk_usage(place).free:,} bytes are left on the disk"
    return "the disk is full"


def read_at(fd: int, nbytes: int, offset: int) -> bytes:
    """Up to `nbytes` from `offset`; fewer only at the end of the file. Threads may share the descriptor."""
    data = os.pread(fd, nbytes, offset)
    while 0 < len(data) < nbytes:
        more = os.pread(fd, nbytes - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def read_file_at(path: str | Path, nbytes: int, offset: int) -> bytes:
    """As `read_at`, of a file that is opened for this alone."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_at(fd, nbytes, offset)
    finally:
        os.close(fd)


def write_at(fd: int, data: bytes, offset: int) -> None:
    """All of `data` at `offset`."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def fsync_directory(path: Path) -> None:
    """Makes the names in a directory durable: without it a rename may be lost with the power."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Readable JSON at `path`, whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(json.dumps(value, indent=2, allow_nan=False).encode("ascii") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_directory(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object at `path`; None where there is none, or what is there is no JSON object."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def directory_nbytes(path: Path) -> int:
    """Bytes of the files in a directory."""
    return sum(entry.stat().st_size for entry in path.iterdir() if entry.is_file())


def file_size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def foreign_file(path: Path) -> str | None:
    """The name of something in a directory that no cache ever wrote, or None."""
    names = {MANIFEST_FILE, BUILDING_FILE, JOURNAL_FILE, FEATURES_FILE, TARGETS_FILE}
    foreign = (e.name for e in path.iterdir() if e.name.removesuffix(".tmp") not in names or not e.is_file())
    return next(foreign, None)


def remove_tree(path: Path) -> None:
    """Removes a directory of ours.

    Raises:
        CacheDirectoryError: it holds something that no cache ever wrote; nothing is removed then.
    """
    foreign = foreign_file(path)
    if foreign is not None:
        raise CacheDirectoryError(f"{path} holds {foreign!r}, which is none of a cache's files; remove it yourself")
    shutil.rmtree(path)
