"""The directory that caches lie in."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..errors import CacheDirectoryError

__all__ = ["cache_directory", "prepare_directory"]


def cache_directory(named: Path | None) -> tuple[Path, Callable[[], object]]:
    """Where caches go, and what removes it at the end: nothing, where it was named.

    Raises:
        CacheDirectoryError: it is a file, or cannot be made or written.
    """
    if named is not None:
        return prepare_directory(named), lambda: None
    temporary = Path(tempfile.mkdtemp(prefix="hoarfrost-"))
    return temporary, partial(shutil.rmtree, temporary, ignore_errors=True)


def prepare_directory(directory: Path) -> Path:
    """Make the cache directory, and see that it can be written to.

    Raises:
        CacheDirectoryError: it is a file, or cannot be made or written.
    """
    if directory.exists() and not directory.is_dir():
        raise CacheDirectoryError(f"cache_dir {directory} is a file; name a directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise CacheDirectoryError(f"cache_dir {directory} cannot be written: {error.strerror}") from error
    return directory
