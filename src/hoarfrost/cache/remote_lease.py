"""Who fetches a published cache says so beside it, so that nobody removes it meanwhile.

At a URL there are no locks: a lease is a small file with the time at which it was written, and counts for a while.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from contextlib import suppress
from typing import Any

__all__ = ["LEASE_SECONDS", "RemoteLease", "is_leased"]

LEASE_SECONDS = 1800.0
"""That a lease counts. Clocks of machines may differ by minutes."""
RENEWED_SECONDS = LEASE_SECONDS / 6

_PLACE = ".readers"


class RemoteLease:
    """That this process fetches the cache in `folder`; nothing is written before `renew`.

    Where nothing can be written there is none: what is removed then is computed.
    """

    def __init__(self, files: Any, folder: str) -> None:
        self._files, self._place = files, folder + _PLACE
        self._path = f"{self._place}/{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._renewed: float | None = None

    def renew(self) -> None:
        """From now on it counts for `LEASE_SECONDS`; asked often, it is written seldom."""
        if self._renewed is not None and time.monotonic() - self._renewed < RENEWED_SECONDS:
            return
        self._renewed = time.monotonic()
        with suppress(Exception):
            if self._path.startswith("/"):
                self._files.makedirs(self._place, exist_ok=True)
            self._files.pipe_file(self._path, str(int(time.time())).encode())

    def release(self) -> None:
        """Whoever wants to may remove the cache."""
        if self._renewed is not None:
            self._renewed = None
            with suppress(Exception):
                self._files.rm_file(self._path)
                self._files.rmdir(self._place)


def is_leased(files: Any, folder: str) -> bool:
    """Whether somebody fetches the cache in a folder. Leases that count no more are removed."""
    files.invalidate_cache()
    try:
        found = [str(path) for path in files.ls(folder + _PLACE, detail=False)]
    except (FileNotFoundError, NotADirectoryError):
        return False
    counts = False
    for path in found:
        told = bytes(files.cat_file(path, start=0, end=20))
        if told.isdigit() and abs(time.time() - int(told)) < LEASE_SECONDS:
            counts = True
        elif told.isdigit():
            with suppress(Exception):
                files.rm_file(path)
    if not counts:
        with suppress(Exception):
            files.rmdir(folder + _PLACE)
    return counts
