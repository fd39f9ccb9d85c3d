"""Readers of a cache hold a lease, so that nobody removes what another reads."""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["Lease", "readers"]

_SUFFIX = ".lease"


class Lease:
    """That this process reads the cache `key` under `root`, held from construction to `release`.

    It is a locked file. The lock is the operating system's, so that a crashed reader's lease is nobody's. Where nothing
    can be written there is none, as nobody can remove anything there either.
    """

    def __init__(self, root: Path, key: str) -> None:
        self._place = _place(root, key)
        self._lock: FileLock | None = None
        with suppress(OSError):
            while not self._taken():
                pass

    def _taken(self) -> bool:
        """Whether the file that was locked is still the one that others find: who looks for readers removes a file
        that nobody has locked yet."""
        self._place.mkdir(exist_ok=True)
        # Any thread may release it: a cache is closed by another thread than opened it.
        path = self._place / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
        lock = FileLock(path, thread_local=False)
        lock.acquire(timeout=1.0)
        if not path.exists():
            lock.release()
            return False
        self._lock = lock
        return True

    def release(self) -> None:
        """Whoever wants to may remove the cache; a second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        with suppress(OSError):
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):
            self._place.rmdir()


def readers(root: Path, key: str) -> list[str]:
    """Who reads the cache, as host and process id; leases of processes that have ended are removed."""
    found = []
    place = _place(root, key)
    for path in sorted(place.glob(f"*{_SUFFIX}")):
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            host, pid, _ = path.name.removesuffix(_SUFFIX).rsplit("-", 2)
            found.append(f"process {pid} on {host}")
            continue
        with suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()
    with suppress(OSError):
        place.rmdir()
    return found


def _place(root: Path, key: str) -> Path:
    return root / f".{key}.readers"
