"""One writer for each cache. The lock is the operating system's, so that a crashed holder's does not
block.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import CacheBusyError
from ..untrusted import open_regular, read_regular, write_whole
from .files import directory_errors

__all__ = ["CacheLock"]


class CacheLock:
    """The right to write to the cache `key` under `root`, or to heal it.

    Held from construction to `release`, or as a context.

    Raises:
        CacheBusyError: another writer holds it; names the directory and the holder's process id.
        CacheDirectoryError: the directory cannot be written.
    """

    def __init__(self, root: Path, key: str, wait_seconds: float = 0.0) -> None:
        self._pid_file = root / f".{key}.pid"
        # Any thread may release it: a build may be committed by another thread than began it.
        self._lock = FileLock(root / f".{key}.lock", thread_local=False)
        try:
            with directory_errors(root, "taking the writer's lock"):
                # A lock would make the directory anew.
                root.stat()
                self._acquire(root, key, wait_seconds)
                # Beside the lock, not in it: some versions of filelock empty the lock file when they try it. It is for
                # people to read: a disk that has no room for it is no reason to keep a cache that is to be dropped.
                with suppress(OSError):
                    write_whole(self._pid_file, str(os.getpid()).encode())
        except BaseException:
            self._lock.release()
            raise

    def _acquire(self, root: Path, key: str, wait_seconds: float) -> None:
        place = Path(self._lock.lock_file)
        if os.path.lexists(place):
            # A lock file is opened to write, and by some versions emptied: not through a link.
            os.close(open_regular(place))
        try:
            self._lock.acquire(timeout=wait_seconds)
        except Timeout as error:
            raise CacheBusyError(
                f"process {self._holder()} is writing to the cache {key} in {root}; "
                "wait for it, or give this run a cache directory of its own"
            ) from error

    def _holder(self) -> str:
        with suppress(OSError):
            told = read_regular(self._pid_file, 20)
            return told.decode() if told.isdigit() else "(unknown)"
        return "(unknown)"

    def release(self) -> None:
        """Lets others in; a second call does nothing."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._pid_file.unlink()
            with suppress(OSError):
                self._lock.release()

    def __enter__(self) -> CacheLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()
