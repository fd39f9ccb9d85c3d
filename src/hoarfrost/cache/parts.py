"""A cache that several processes build together: each writes a part of its own, and one of them puts these together.

A part is an interrupted build of the cache, in a directory of its own. So what a process wrote before it was killed is
taken up by whoever builds next, with however many others.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..errors import CacheBusyError, CacheError
from .cache import Cache
from .files import directory_errors, is_key
from .fingerprint import Fingerprint
from .locking import CacheLock
from .removal import remove_tree
from .spec import CacheSpec
from .writer import CacheWriter

__all__ = ["begin_part", "discard_parts", "take_parts"]

PARTS = ".parts"


def begin_part(
    directory: Path, fingerprint: Fingerprint, spec: CacheSpec, number: int, budget_bytes: int | None
) -> CacheWriter[Cache]:
    """A part of the cache; `close` leaves it to `take_parts`.

    Raises:
        CacheBusyError, CacheDirectoryError: as `Cache.create`.
    """
    root = directory / PARTS / f"{fingerprint.key}-{number}"
    with directory_errors(root, "making the directory"):
        root.mkdir(parents=True, exist_ok=True)
    return Cache.create(root, fingerprint, spec, budget_bytes=budget_bytes)


def take_parts(writer: CacheWriter[Cache]) -> None:
    """Take over what lies in all parts of a cache, one after the other, and remove them; one that somebody is still
    writing to stays.

    Raises:
        CorruptChunkError, BudgetError, CacheDirectoryError: as `CacheWriter.adopt`.
    """
    for root in sorted((writer.path.parent / PARTS).glob(f"{writer.fingerprint.key}-*")):
        try:
            part = Cache.create(root, writer.fingerprint, writer.spec)
        except CacheBusyError:
            continue
        with part:
            writer.adopt(part)
        _remove(root)


def discard_parts(directory: Path, key: str) -> None:
    """Remove the parts of a cache that is not built any more, and those of others that nobody is building."""
    for root in (directory / PARTS).glob("*-*"):
        other = root.name.partition("-")[0]
        if other == key:
            _remove(root)
        elif is_key(other):
            with suppress(CacheError), CacheLock(directory, other):
                _remove(root)
    with suppress(OSError):
        (directory / PARTS).rmdir()


def _remove(root: Path) -> None:
    """What is proved to be an interrupted build, and the locks beside it."""
    with suppress(CacheError, OSError):
        if root.is_symlink():
            return
        for entry in root.iterdir():
            if entry.is_dir() and is_key(entry.name.rpartition("-")[2]):
                remove_tree(entry)
            elif entry.name.startswith(".") and entry.suffix in (".lock", ".pid"):
                entry.unlink()
        root.rmdir()
