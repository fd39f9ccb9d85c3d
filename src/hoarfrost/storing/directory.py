"""The directory that caches lie in."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from ..cache import RemoteCaches, list_caches, published_in
from ..distributed import Ranks
from ..errors import CacheDirectoryError
from ..settings import Storing

__all__ = ["cache_directory", "local_store", "prepare_directory"]

PREFIX, OWNER = "hoarfrost-", ".owner.lock"
"""Of a temporary directory's name, and the lock in it that its process holds while it lives."""


def cache_directory(storing: Storing, ranks: Ranks | None = None) -> tuple[Path, Callable[[], object]]:
    """Where caches go on this machine, and what removes it at the end: nothing, where it was named.

    Args:
        ranks: that train together; those on one machine share a temporary one.

    Raises:
        ArgumentError: it is a URL that nothing here can read.
        CacheDirectoryError: it is a file, or cannot be made or written.
    """
    if storing.url is not None:
        RemoteCaches(storing.url)  # refuses what could never be reached, before anything is made
        return prepare_directory(storing.local_dir or local_store(storing.url), "local_dir"), lambda: None
    if isinstance(storing.cache_dir, Path):
        return prepare_directory(storing.cache_dir), lambda: None
    if ranks is None or ranks.alone:
        return _temporary()
    made = _temporary() if ranks.leads else None
    there = Path(ranks.lead("a temporary directory", lambda: str(made[0]) if made else ""))
    if made is None:
        made = (there, lambda: None) if there.is_dir() else _temporary()
    return made


def local_store(url: str) -> Path:
    """Where what lies at a URL is kept in the user's cache folder."""
    named = os.environ.get("XDG_CACHE_HOME")
    usual = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    # A URL may hold a password, so that it does not stand in a name.
    return (Path(named) if named else usual) / "hoarfrost" / f"url-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


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


def prepare_directory(directory: Path, setting: str = "cache_dir") -> Path:
    """Make the cache directory, and see that it can be written to, or that a finished cache can be read in it.

    Args:
        setting: that names it, for errors.

    Raises:
        CacheDirectoryError: it is a file, or others have published there; or it cannot be made or written, and holds
            nothing to read.
    """
    if directory.exists() and not directory.is_dir():
        raise CacheDirectoryError(f"{setting} {directory} is a file; name a directory")
    if published_in(directory):
        raise CacheDirectoryError(
            f"{setting} {directory} holds caches that were published there, which go to nobody who names it by its "
            f"path: name it as cache_dir={directory.absolute().as_uri()!r}, or another directory"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        if not _holds_cache(directory):
            raise CacheDirectoryError(f"{setting} {directory} cannot be written: {error.strerror}") from error
    return directory


def _holds_cache(directory: Path) -> bool:
    try:
        return any(found.state == "ready" for found in list_caches(directory))
    except CacheDirectoryError:
        return False
