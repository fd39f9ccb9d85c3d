"""Removing a cache: only where it is proved to be one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import CacheDirectoryError
from ..untrusted import kind_of, open_regular
from .files import BUILDING_FILE, CACHE_FILES, JOURNAL_FILE, MANIFEST_FILE, read_at
from .journal import read_line

__all__ = ["FORMAT", "remove_tree", "unlike_cache"]

FORMAT = "hoarfrost cache"

_LOOKED_AT = 1 << 16


def unlike_cache(path: Path) -> str | None:
    """Why a directory is not proved to be a cache, finished, building or half removed; None: it is.

    It is where all in it are files of a cache's names, and one of them says so: the manifest by its format, or the
    journal by a line that fits its own checksum. Where there is no byte in them nothing is lost with them.
    """
    mode = path.lstat().st_mode
    if not stat.S_ISDIR(mode):
        return f"{path} is {kind_of(mode)}"
    nbytes = 0
    for entry in path.iterdir():
        found = entry.lstat()
        if entry.name.removesuffix(".tmp") not in CACHE_FILES or not stat.S_ISREG(found.st_mode):
            return f"{path} holds {entry.name!r}, which is none of a cache's files"
        nbytes += found.st_size
    if not nbytes or _says_so(path):
        return None
    return f"nothing in {path} says that it is a cache"


def remove_tree(path: Path) -> None:
    """Removes a cache's directory.

    Raises:
        CacheDirectoryError: it is not proved to be one; nothing is removed then.
    """
    reason = unlike_cache(path)
    if reason is not None:
        raise CacheDirectoryError(f"{reason}; remove it yourself")
    for name in CACHE_FILES:
        for file in (path / f"{name}.tmp", path / name):
            file.unlink(missing_ok=True)
    path.rmdir()


def _says_so(path: Path) -> bool:
    mark = f'"format": "{FORMAT}"'.encode()
    names = (MANIFEST_FILE, BUILDING_FILE)
    if any(mark in _begin(path / name) for known in names for name in (known, f"{known}.tmp")):
        return True
    return any(read_line(line) is not None for line in _begin(path / JOURNAL_FILE).split(b"\n"))


def _begin(path: Path) -> bytes:
    try:
        fd = open_regular(path)
    except OSError:
        return b""
    try:
        return read_at(fd, _LOOKED_AT, 0)
    finally:
        os.close(fd)
