"""Parts of builds by several processes that were broken off: whose they are, and removing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import CacheError
from .files import is_key
from .locking import CacheLock
from .removal import remove_tree

__all__ = ["PARTS", "discard_parts", "prune_parts", "remove_part"]

PARTS = ".parts"


def discard_parts(directory: Path, key: str) -> None:
    """Remove the parts of a cache that is not built any more, and those of others that nobody is building."""
    for root in _parts(directory, lambda other: other == key):
        remove_part(root)
    prune_parts(directory, lambda other: other == key)


def prune_parts(directory: Path, kept: Callable[[str], bool]) -> list[Path]:
    """Remove the parts of caches that nobody is building, but for those whose key is to be kept; what was removed."""
    removed = []
    for root in _parts(directory, lambda key: is_key(key) and not kept(key)):
        key = root.name.partition("-")[0]
        with suppress(CacheError), CacheLock(directory, key), CacheLock(root, key):
            remove_part(root)
        if not root.exists():
            removed.append(root)
    with suppress(OSError):
        (directory / PARTS).rmdir()
    return removed


def remove_part(root: Path) -> None:
    """What is proved to be an interrupted build, and the locks beside it."""
    with suppress(CacheError, OSError):
        for entry in root.iterdir():
            if entry.is_dir() and is_key(entry.name.rpartition("-")[2]):
                remove_tree(entry)
            elif entry.name.startswith(".") and entry.suffix in (".lock", ".pid"):
                entry.unlink()
        root.rmdir()


def _parts(directory: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """Directories of parts, by the keys of their caches."""
    found = sorted((directory / PARTS).glob("*-*"))
    return (root for root in found if not root.is_symlink() and wanted(root.name.partition("-")[0]))
