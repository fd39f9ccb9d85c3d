"""The records of a published cache, fetched into its copy on this disk, ahead of who reads them.

A record that was not fetched yet is a hole in the copy: to whoever reads it a damaged record like any other. So a copy
needs no mark and no word of where it came from, and where fetching fails the record is healed.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ..errors import CacheError
from ..untrusted import open_regular
from .files import FEATURES_FILE, directory_errors, open_data, read_at, write_at
from .journal import Record
from .locking import CacheLock
from .remote import RemoteCaches

__all__ = ["Fetcher"]

TOGETHER = 8
"""Records that are asked for at once: file systems that can fetch them side by side."""
BEGIN = 16
"""Bytes of a record that are looked at to see whether it is a hole."""
WAIT_SECONDS = 30.0
"""For another process that writes to the copy."""

Place = tuple[int, int]


class Fetcher:
    """Fetches records of the cache `key` at a URL into `path`. Threads may call it.

    Args:
        records: those that count by now, as the journal on this disk has them.

    Attributes:
        failure: why nothing more is fetched until the next `expect`; None: nothing has failed.
    """

    def __init__(
        self, remote: RemoteCaches, path: Path, key: str, records: Callable[[], Mapping[Place, Record]]
    ) -> None:
        self._remote, self._path, self._key, self._records = remote, path, key, records
        self.failure: CacheError | None = None
        self._process = os.getpid()
        self._turn = threading.Lock()
        """Held by who fetches, so that nothing is fetched twice."""
        self._writing = threading.Lock()
        self._over, self._closed = threading.Event(), False

    def expect(self, places: Sequence[Place]) -> None:
        """These are read next, in this order: a thread fetches what lacks of them. It is a new try where one failed."""
        self._over.set()
        self._over, self.failure = threading.Event(), None
        run = threading.Thread(target=self._run, args=(places, self._over), name="hoarfrost-fetch", daemon=True)
        run.start()

    def fetch(self, record: Record) -> bool:
        """Fetch one that could not be read; whether its bytes are there now. In a forked process nothing is."""
        if os.getpid() != self._process:
            return False
        with self._turn:
            if self._holds(record):
                return True  # it came while this waited
            return self.failure is None and record in self._fetched([record])

    def close(self) -> None:
        """Nothing more is written."""
        self._over.set()
        if os.getpid() == self._process:
            with self._writing:
                self._closed = True

    def _run(self, places: Sequence[Place], over: threading.Event) -> None:
        records = self._records()
        lacking = (records[place] for place in places if place in records and self._is_hole(records[place]))
        while together := list(islice(lacking, TOGETHER)):
            with self._turn:
                if over.is_set() or self.failure is not None:
                    return
                self._fetched([record for record in together if self._is_hole(record)])

    def _fetched(self, wanted: Sequence[Record]) -> Iterable[Record]:
        """Those whose bytes came as the journal says, written. The caller has the turn."""
        try:
            found = self._remote.records(self._key, wanted)
            good = {
                record: data
                for record, data in zip(wanted, found, strict=True)
                if data is not None and (len(data), zlib.crc32(data)) == (record.nbytes, record.crc32)
            }
            with self._writing:
                if not self._closed:
                    self._write(good)
        except CacheError as error:
            self.failure = error
            return ()
        return good

    def _write(self, good: Mapping[Record, bytes]) -> None:
        """Under the cache's lock: another process may have given a record's room to another by now."""
        root, name = self._path.parent, self._path.name
        with directory_errors(self._path, "writing what was fetched"), CacheLock(root, name, WAIT_SECONDS):
            current = self._records()
            for record, data in good.items():
                if current.get(record.place) == record:
                    fd = open_data(self._path / FEATURES_FILE, record.cache)
                    try:
                        write_at(fd, data, record.offset)
                    finally:
                        os.close(fd)

    def _is_hole(self, record: Record) -> bool:
        return not any(self._bytes(record.offset, min(BEGIN, record.nbytes)))

    def _holds(self, record: Record) -> bool:
        return zlib.crc32(self._bytes(record.offset, record.nbytes)) == record.crc32

    def _bytes(self, offset: int, nbytes: int) -> bytes:
        """Of the copy's features; nothing where they cannot be read."""
        with suppress(OSError):
            fd = open_regular(self._path / FEATURES_FILE)
            try:
                return read_at(fd, nbytes, offset)
            finally:
                os.close(fd)
        return b""
