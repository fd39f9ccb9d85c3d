"""The directory that caches lie in."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from ..cache import list_caches
from ..distributed import Ranks
from ..errors import CacheDirectoryError

__all__ = ["cache_directory", "prepare_directory"]

PREFIX, OWNER = "hoarfrost-", ".owner.lock"
"""Of a temporary directory's name, and the lock in it that its process holds while it lives."""


def cache_directory(named: Path | None, ranks: Ranks | None = None) -> tuple[Path, Callable[[], object]]:
    """Where caches go, and what removes it at the end: nothing, where it was named.

    Args:
        ranks: that train together; those on one machine share a temporary one.

    Raises:
        CacheDirectoryError: it is a file, or cannot be made or written.
    """
    if named is not None:
        return prepare_directory(named), lambda: None
    if ranks is None or ranks.alone:
        return _temporary()
    made = _temporary() if ranks.leads else None
    there = Path(ranks.lead("a temporary directory", lambda: str(made[0]) if made else ""))
    if made is None:
        made = (there, lambda: None) if there.is_dir() else _temporary()
    return made


def _temporary() -> tuple[Path, Callable[[], object]]:
    _remove_abandoned()
    try:
        temporary = Path(tempfile.mkdtemp(prefix=PREFIX))
        owner = FileLock(temporary / OWNER, thread_local=False)
        owner.acquire()
    except OSError as error:
        raise CacheDirectoryError(f"no temporary directory can be made: {error}; name a cache_dir") from error
    return temporary, partial(_remove, temporary, owner, os.getpid())


def _remove(temporary: Path, owner: FileLock, process: int) -> None:
    # A forked process has the same object, and must not take the directory from the one that made it.
    if os.getpid() == process:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            owner.release()


def _remove_abandoned() -> None:
    """Remove temporary directories of processes that were killed: their owners hold them no longer."""
    with suppress(OSError):
        for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
            with suppress(OSError, Timeout), FileLock(path, timeout=0, thread_local=False):
                shutil.rmtree(path.parent, ignore_errors=True)


def prepare_directory(directory: Path) -> Path:
    """Make the cache directory, and see that it can be written to, or that a finished cache can be read in it.

    Raises:
        CacheDirectoryError: it is a file, or cannot be made or written, and holds nothing to read.
    """
    if directory.exists() and not directory.is_dir():
        raise CacheDirectoryError(f"cache_dir {directory} is a file; name a directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        if not _holds_cache(directory):
            raise CacheDirectoryError(f"cache_dir {directory} cannot be written: {error.strerror}") from error
    return directory


def _holds_cache(directory: Path) -> bool:
    try:
        return any(found.state == "ready" for found in list_caches(directory))
    except CacheDirectoryError:
        return False
