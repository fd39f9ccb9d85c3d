"""Files of a cache: their names, and reading and writing them so that a crash leaves the old state or the
new.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import BudgetError, CacheDirectoryError
from ..untrusted import open_regular, parse_json, read_regular, write_whole

__all__ = [
    "BUILDING_FILE",
    "CACHE_FILES",
    "FEATURES_FILE",
    "ID_NBYTES",
    "JOURNAL_FILE",
    "LARGEST_MANIFEST",
    "MANIFEST_FILE",
    "TARGETS_FILE",
    "building_path",
    "directory_errors",
    "directory_nbytes",
    "discard_path",
    "file_size",
    "fsync_directory",
    "is_id",
    "is_key",
    "open_data",
    "read_at",
    "read_json",
    "write_at",
    "write_json",
]

MANIFEST_FILE = "manifest.json"
BUILDING_FILE = "building.json"
JOURNAL_FILE = "journal.jsonl"
FEATURES_FILE = "features.bin"
TARGETS_FILE = "targets.bin"
CACHE_FILES = (FEATURES_FILE, TARGETS_FILE, JOURNAL_FILE, BUILDING_FILE, MANIFEST_FILE)
"""In the order in which they are removed: what proves whose the others are goes last."""

ID_NBYTES = 8
"""Bytes at the begin of the two data files: the id of the cache that they belong to."""
LARGEST_MANIFEST = 16 << 20

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_key(name: str) -> bool:
    """Whether a directory is named as a cache's is: 16 hexadecimal digits."""
    return re.fullmatch("[0-9a-f]{16}", name) is not None


def is_id(text: str) -> bool:
    """Whether a text is a cache's id: as many digits as `ID_NBYTES` have."""
    return re.fullmatch(f"[0-9a-f]{{{2 * ID_NBYTES}}}", text) is not None


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
    # A declared size is not believed: a buffer of it would be made before the first byte is read.
    nbytes = min(nbytes, os.fstat(fd).st_size - offset)
    if nbytes <= 0:
        return b""
    data = os.pread(fd, nbytes, offset)
    while 0 < len(data) < nbytes:
        more = os.pread(fd, nbytes - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def open_data(path: Path, cache: str) -> int:
    """One of the data files of the cache with this id, to read and to write; it is made where there is none, and begins
    with the id, whatever stood there."""
    fd = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        if read_at(fd, ID_NBYTES, 0) != bytes.fromhex(cache):
            write_at(fd, bytes.fromhex(cache), 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


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
    write_whole(path, json.dumps(value, indent=2, allow_nan=False).encode("ascii") + b"\n", durably=True)
    fsync_directory(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object at `path`; None where there is none, or what is there is no JSON object."""
    try:
        value = parse_json(read_regular(path, LARGEST_MANIFEST))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def directory_nbytes(path: Path) -> int:
    """Bytes of the files in a directory."""
    return sum(found.st_size for entry in path.iterdir() if stat.S_ISREG((found := entry.lstat()).st_mode))


def file_size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0
