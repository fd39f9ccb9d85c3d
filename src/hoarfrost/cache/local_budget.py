"""How much of this disk what is fetched from a URL may take: what nobody reads makes room, the rest is not kept."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..errors import CacheBusyError, CacheError
from .catalog import drop_cache
from .files import MANIFEST_FILE, is_key
from .lease import readers
from .remote import RemoteCaches

__all__ = ["LocalBudget"]

BLOCK = 512
"""Bytes of what `st_blocks` counts, on every system."""
AROUND = 2 * 4096
"""Bytes that a record may take beside its own: the blocks of the file system in which it begins and ends."""


class LocalBudget:
    """Bytes that the caches in a directory may take on this disk before nothing more is fetched into them.

    Whole caches make room, the one first of which an epoch was read longest ago: those that nobody reads, and that the
    URL has too. Within a cache nothing does: an epoch wants every chunk once, so that letting one go for another would
    gain nothing.
    """

    def __init__(self, root: Path, remote: RemoteCaches, nbytes: int) -> None:
        self._root, self._remote, self._nbytes = root, remote, nbytes
        self._stay: set[Path] = set()
        """Looked at since the epoch began: these make no room."""

    def begin(self, reading: Path) -> None:
        """An epoch of this cache begins."""
        self._stay.clear()
        with suppress(OSError):
            os.utime(reading)

    def fits(self, records: Iterable[int]) -> bool:
        """Whether records of so many bytes may be written, once what makes room for them is gone."""
        needed = sum(nbytes + AROUND for nbytes in records)
        with suppress(OSError):
            while self._used() + needed > self._nbytes:
                if not self._let_go():
                    return False
            return True
        return False

    def _let_go(self) -> bool:
        """Remove one cache; False: none is left that may go."""
        there = [path for path in self._caches() if path not in self._stay and is_key(path.name)]
        for path in sorted(there, key=lambda path: path.stat().st_mtime):
            self._stay.add(path)
            with suppress(CacheBusyError):
                if not readers(self._root, path.name) and self._is_published(path):
                    drop_cache(path)
                    return True
        return False

    def _is_published(self, path: Path) -> bool:
        with suppress(CacheError):
            return (path / MANIFEST_FILE).exists() and self._remote.holds(path.name)
        return False

    def _used(self) -> int:
        """What is there, holes not counted."""
        return sum(entry.stat().st_blocks for path in self._caches() for entry in path.iterdir()) * BLOCK

    def _caches(self) -> list[Path]:
        """Finished and building."""
        return [path for path in self._root.iterdir() if is_key(path.name.removeprefix("building-")) and path.is_dir()]
