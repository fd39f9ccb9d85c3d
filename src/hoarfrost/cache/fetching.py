"""The records of a published cache, fetched into its copy on this disk, ahead of who reads them.

A record that was not fetched yet is a hole in the copy: to whoever reads it a damaged record like any other. So a copy
needs no mark and no word of where it came from, and where fetching fails the record is healed.

What this disk has no room for passes through memory: it is fetched in each epoch, a little ahead of who reads it.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ..errors import BudgetError, CacheError
from ..untrusted import open_regular
from .files import FEATURES_FILE, directory_errors, open_data, read_at, write_at
from .journal import Record
from .local_budget import LocalBudget
from .locking import CacheLock
from .remote import RemoteCaches

__all__ = ["Fetcher"]

TOGETHER = 8
"""Records that are asked for at once: file systems that can fetch them side by side."""
BEGIN = 16
"""Bytes of a record that are looked at to see whether it is a hole."""
PASSING = 4 * TOGETHER
"""Records that wait in memory for who reads them, where there is no room for them on this disk."""
WAIT_SECONDS = 30.0
"""For another process that writes to the copy."""

Place = tuple[int, int]


class Fetcher:
    """Fetches records of the cache `key` at a URL into `path`. Threads may call it.

    Args:
        records: those that count by now, as the journal on this disk has them.
        cache: the cache's id.
        budget: of this disk; None: no limit.

    Attributes:
        failure: why nothing more is fetched until the next `expect`; None: nothing has failed.
    """

    def __init__(
        self,
        remote: RemoteCaches,
        path: Path,
        key: str,
        records: Callable[[], Mapping[Place, Record]],
        cache: str,
        budget: LocalBudget | None = None,
    ) -> None:
        self._remote, self._path, self._key, self._records = remote, path, key, records
        self.budget = budget
        self.failure: CacheError | None = None
        self._process = os.getpid()
        self._lease = remote.lease(key, cache)
        self._turn = threading.Lock()
        """Held by who fetches, so that nothing is fetched twice."""
        self._writing = threading.Lock()
        self._over, self._closed = threading.Event(), False
        self._passing: dict[Record, bytes] = {}
        self._passed = threading.Condition()

    def expect(self, places: Sequence[Place]) -> None:
        """These are read next, in this order: a thread fetches what lacks of them. It is a new try where one failed."""
        self._end()
        self._over, self.failure = threading.Event(), None
        if self.budget is not None:
            self.budget.begin(self._path)
        run = threading.Thread(target=self._run, args=(places, self._over), name="hoarfrost-fetch", daemon=True)
        run.start()

    def fetch(self, record: Record) -> bytes | None:
        """One that could not be read; None: it cannot be had. In a forked process nothing is fetched."""
        if os.getpid() != self._process:
            return None
        with self._turn:
            held = self._taken(record) or self._held(record)
            if held is not None or self.failure is not None:
                return held  # it came while this waited
            self._fetched([record])
            return self._taken(record) or self._held(record)

    def check_room(self, record: Record) -> None:
        """Before one that could not be fetched is written by who has computed it.

        Raises:
            BudgetError: it was never here, and there is no room for it.
        """
        if self.budget is not None and self._is_hole(record) and not self.budget.fits([record.nbytes]):
            raise BudgetError(
                f"chunk {record.chunk}, view {record.view} of {self._path} takes {record.nbytes:,} bytes, which the "
                "local_budget has not left"
            )

    def close(self) -> None:
        """Nothing more is written."""
        self._end()
        if os.getpid() == self._process:
            with self._writing:
                self._closed = True
            self._lease.release()

    def _end(self) -> None:
        """The thread that fetches ahead does so no longer."""
        self._over.set()
        if os.getpid() == self._process:
            with self._passed:
                self._passing.clear()
                self._passed.notify_all()

    def _run(self, places: Sequence[Place], over: threading.Event) -> None:
        records = self._records()
        lacking = (records[place] for place in places if place in records and self._is_hole(records[place]))
        while together := list(islice(lacking, TOGETHER)):
            with self._passed:
                self._passed.wait_for(lambda: over.is_set() or len(self._passing) <= PASSING - TOGETHER)
            with self._turn:
                if over.is_set() or self.failure is not None:
                    return
                self._fetched([record for record in together if self._is_hole(record)])

    def _fetched(self, wanted: Sequence[Record]) -> None:
        """Those whose bytes come as the journal says are written, or pass by. The caller has the turn."""
        try:
            self._lease.renew()
            found = self._remote.records(self._key, wanted)
            good = {
                record: data
                for record, data in zip(wanted, found, strict=True)
                if data is not None and (len(data), zlib.crc32(data)) == (record.nbytes, record.crc32)
            }
            with self._writing:
                if not self._closed and not self._kept(good):
                    with self._passed:
                        self._passing.update(good)
        except CacheError as error:
            self.failure = error

    def _kept(self, good: Mapping[Record, bytes]) -> bool:
        """Whether they were written to this disk: there was room for them."""
        if self.budget is not None and not self.budget.fits(map(len, good.values())):
            return False
        try:
            self._write(good)
        except BudgetError:
            return False
        return True

    def _taken(self, record: Record) -> bytes | None:
        """One that passes by, for who reads it."""
        with self._passed:
            data = self._passing.pop(record, None)
            self._passed.notify_all()
        return data

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

    def _held(self, record: Record) -> bytes | None:
        """One that is on this disk."""
        data = self._bytes(record.offset, record.nbytes)
        return data if zlib.crc32(data) == record.crc32 else None

    def _bytes(self, offset: int, nbytes: int) -> bytes:
        """Of the copy's features; nothing where they cannot be read."""
        with suppress(OSError):
            fd = open_regular(self._path / FEATURES_FILE)
            try:
                return read_at(fd, nbytes, offset)
            finally:
                os.close(fd)
        return b""
