"""A committed cache: opened, read, verified, healed and dropped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CacheDirectoryError, CacheError, CorruptChunkError
from .catalog import drop_cache
from .chunk import Chunk, Damage
from .fetching import Fetcher
from .files import FEATURES_FILE, MANIFEST_FILE, TARGETS_FILE, directory_errors, directory_nbytes
from .fingerprint import Fingerprint
from .journal import Journal, Record
from .lease import Lease
from .local_budget import LocalBudget
from .locking import CacheLock
from .lookup import find_cache
from .manifest import Manifest
from .reader import Reader
from .remote import RemoteCaches
from .replacement import Replaceable, Replacement
from .rewriting import rewrite_record
from .spec import CacheSpec
from .writer import CacheWriter

__all__ = ["Cache"]

# Healing one record takes a second; whoever holds the lock longer is building, not healing.
HEAL_WAIT_SECONDS = 30.0


class Cache(Replaceable):
    """The stored features of one frozen prefix, on disk. `open` and `create` make it.

    Reading opens no file for longer than a call and shares no state, so that threads may read at once, and
    a `Cache` may be pickled or forked. What is read equals what decoding the written bytes gives, or `read`
    raises.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.spec = manifest.spec
        self.fingerprint = manifest.fingerprint
        self._lease: Lease | None = None
        self._fetcher: Fetcher | None = None
        self._take(manifest)

    def _take(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._journal = Journal(self.path, manifest.id, manifest.spec)
        self._reader = Reader(self.path, manifest)

    @staticmethod
    def create(
        directory: str | os.PathLike[str],
        fingerprint: Fingerprint,
        spec: CacheSpec,
        *,
        budget_bytes: int | None = None,
        wait_seconds: float = 0.0,
    ) -> CacheWriter[Cache]:
        """Begins the cache `<directory>/<fingerprint.key>`, or takes up an interrupted build of the same.

        Interrupted builds of other fingerprints in `directory` are removed unless someone is writing to them;
        committed caches and foreign files stay untouched.

        Raises:
            CacheBusyError: another process is writing the same cache and is not done within `wait_seconds`; names the
                directory and the process.
            CacheDirectoryError: `directory` is a file or cannot be written.
        """
        return CacheWriter(Path(directory), fingerprint, spec, budget_bytes, Cache.open, wait_seconds)

    @staticmethod
    def open(directory: str | os.PathLike[str], fingerprint: Fingerprint | None = None) -> Cache:
        """The cache in `directory`: the cache's own, or one that holds caches (where `fingerprint` says
        which).

        Raises:
            CacheDirectoryError: there is no cache, or several and no fingerprint.
            StaleCacheError: made from something else; names the first field that differs, with both values.
            CorruptChunkError: the manifest is damaged.
        """
        return Cache(*find_cache(Path(directory), fingerprint))

    def hold(self) -> Cache:
        """Keep others from removing the cache, until `release`, `drop` or the end of the process; returns itself.

        Raises:
            CacheDirectoryError: it was removed since it was opened.
        """
        if self._lease is None:
            self._lease = Lease(self.path.parent, self.path.name)
            if not (self.path / MANIFEST_FILE).exists():
                self.release()
                raise CacheDirectoryError(f"the cache {self.path} has been removed meanwhile")
        return self

    def release(self) -> None:
        """Let others remove it; the opposite of `hold`."""
        if self._fetcher is not None:
            self._fetcher.close()
            self._fetcher = None
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    def __getstate__(self) -> dict[str, object]:
        # A lease is this process's, and so is a thread.
        return {**self.__dict__, "_lease": None, "_fetcher": None}

    def fetch_from(self, remote: RemoteCaches, local_budget: int | None = None) -> None:
        """From now on, until `release`, a record that is missing or damaged here is fetched from where the cache was
        published.

        Args:
            local_budget: bytes that all caches beside this one may take, and this one; what goes beyond that is
                fetched whenever it is read. None: all is kept.
        """
        if self._fetcher is None:
            budget = None if local_budget is None else LocalBudget(self.path.parent, remote, local_budget)
            key, records = self.fingerprint.key, self._records_now
            self._fetcher = Fetcher(remote, self.path, key, records, self._manifest.id, budget)

    def _records_now(self) -> Mapping[tuple[int, int], Record]:
        self.refresh()
        return self._journal.records

    @property
    def fetches(self) -> bool:
        """Whether what is missing here is fetched."""
        return self._fetcher is not None

    @property
    def unfetched(self) -> CacheError | None:
        """Why nothing more is fetched until the next `expect`; None: nothing has failed."""
        return None if self._fetcher is None else self._fetcher.failure

    def expect(self, places: Sequence[tuple[int, int]]) -> None:
        """These (chunk, view) are read next, in this order: what is missing of them is fetched ahead, by a thread."""
        if self._fetcher is not None:
            self._fetcher.expect(places)

    def publish(self, remote: RemoteCaches) -> bool:
        """Copy a whole cache to a URL, unless a finished one of the same is there; whether it was done.

        Raises:
            CorruptChunkError: a record of it is damaged here, or was never fetched.
            RemoteCacheError: it cannot be written there. Nothing can be seen of it then.
            CacheBusyError: another process has been healing it for long.
        """
        if not self.whole or any(record.edition for record in self._records_now().values()):
            return False  # what others would begin with are the first renditions
        if remote.holds(self.fingerprint.key):
            return False
        with CacheLock(self.path.parent, self.path.name, wait_seconds=HEAL_WAIT_SECONDS):
            records = self._records_now()
            for place in sorted(self.spec.records):
                if place not in records:
                    raise self._reader.unlisted(*place, self._journal)
                self._reader.raw(records[place])
            remote.put(self.path, self._manifest)
        return True

    @property
    def built(self) -> int:
        """When it was committed, in nanoseconds as files' times are; 0 where that cannot be had."""
        try:
            return (self.path / MANIFEST_FILE).stat().st_mtime_ns
        except OSError:
            return 0

    @property
    def nbytes(self) -> int:
        """Bytes that the cache takes on disk."""
        with directory_errors(self.path, "measuring"):
            return directory_nbytes(self.path)

    @property
    def dense_nbytes(self) -> int:
        """Bytes that the stored records would take in float32."""
        if self.whole:
            return self.spec.dense_nbytes
        records = self._journal.records.items()
        return sum(self.spec.dense_nbytes_of(*place, record.lengths) for place, record in records)

    @property
    def whole(self) -> bool:
        """Whether all records were there when it was committed, so that a missing one is damage."""
        return self._manifest.whole

    @property
    def unreadable(self) -> Mapping[int, str]:
        """Samples that could not be read when it was built, and why: another's row stands for each."""
        return self._manifest.unreadable

    def read(self, chunk: int, view: int) -> Chunk:
        """One record. Safe from many threads; the interpreter lock is released while it reads and
        decompresses.

        Raises:
            ArgumentError: there is no such chunk or view.
            CorruptChunkError: missing, cut short or damaged; names chunk, view, path and reason.
            CacheDirectoryError: the whole directory has vanished, or the cache was dropped.
        """
        self.spec.check_record(chunk, view)
        record = self._journal.records.get((chunk, view))
        try:
            return self._reader.read(chunk, view, record)
        except CorruptChunkError:
            # Another process, or another thread, may have healed the record since the journal was read.
            self.refresh()
            healed = self._journal.records.get((chunk, view))
            if healed is None:
                raise self._reader.unlisted(chunk, view, self._journal) from None
            if healed == record:
                payload = None if self._fetcher is None else self._fetcher.fetch(record)
                healed = self._journal.records[chunk, view]
                if healed == record:
                    if payload is None:
                        raise
                    return self._reader.read(chunk, view, record, payload)
        return self._reader.read(chunk, view, healed)

    def refresh(self) -> None:
        """Sees what others have written since, a whole cache of the same in this one's place included."""
        with suppress(CacheError, OSError):
            manifest = Manifest.read(self.path / MANIFEST_FILE)
            same = manifest.fingerprint == self.fingerprint and manifest.spec == self.spec
            if manifest.id != self._manifest.id and same:
                self._take(manifest)
        self._journal.refresh()

    def edition(self, chunk: int, view: int) -> int | None:
        """Which rendition the record shows, or None where there is no record. Reads nothing from disk."""
        record = self._journal.records.get((chunk, view))
        return None if record is None else record.edition

    def digests(self, chunk: int) -> str | None:
        """What the journal tells of the bytes that a chunk's samples had when it was built, as `append` took it; None
        where nobody told. Reads nothing from disk."""
        return next((record.digests for record in self._records_of(chunk) if record.digests), None)

    def frames(self, chunk: int) -> tuple[int, ...] | None:
        """What the journal tells of the frames of a chunk's images, likewise."""
        return next((record.frames for record in self._records_of(chunk) if record.frames), None)

    def _records_of(self, chunk: int) -> Iterator[Record]:
        found = (self._journal.records.get((chunk, view)) for view in range(self.spec.views))
        return (record for record in found if record is not None)

    def written(self) -> tuple[int, ...]:
        """What changes when anyone writes to the data files, or puts others in their place: their inodes, sizes in
        bytes and times of change."""
        marks: list[int] = []
        for name in (FEATURES_FILE, TARGETS_FILE):
            with suppress(OSError):
                found = (self.path / name).stat()
                marks += (found.st_ino, found.st_size, found.st_mtime_ns)
        return tuple(marks)

    def _replace(self, new: Replacement) -> Chunk:
        self.spec.check_record(new.chunk, new.view)
        with directory_errors(self.path, f"writing chunk {new.chunk}, view {new.view} anew"):
            if not self.path.is_dir():
                raise CacheDirectoryError(f"the cache directory {self.path} has vanished")
            with CacheLock(self.path.parent, self.path.name, wait_seconds=HEAL_WAIT_SECONDS):
                self.refresh()
                known = self._journal.records.get((new.chunk, new.view))
                if self._fetcher is not None and known is not None:
                    self._fetcher.check_room(known)
                record = rewrite_record(self.path, self._manifest, self._journal.records, new)
                self._journal.note(record)
                return self._reader.read(new.chunk, new.view, record)

    def verify(self) -> list[Damage]:
        """Reads every record; those that cannot be read, in order. Empty: the cache is whole.

        Records that a cache recorded epoch by epoch does not hold yet are no damage.
        """
        damages = []
        for chunk, view in sorted(self.spec.records if self.whole else self._journal.records):
            try:
                self.read(chunk, view)
            except CorruptChunkError as error:
                damages.append(Damage(chunk, view, self.path, str(error)))
        return damages

    def drop(self) -> None:
        """Removes the cache from disk. It disappears at once, under another name, before its files go.

        Raises:
            CacheBusyError: another process reads it, or is healing it. It stays, and no longer counts as read here.
            CacheDirectoryError: it cannot be removed.
        """
        self.release()
        drop_cache(self.path)

    def sample_ids(self, chunk: int) -> Tensor:
        """The ids of a chunk's samples, int64 `[n]`, from the journal alone.

        Raises:
            CorruptChunkError: no view's line in the journal is left.
        """
        self.spec.check_record(chunk, 0)
        for view in range(self.spec.views):
            record = self._journal.records.get((chunk, view))
            if record is not None:
                return torch.tensor(record.sample_ids, dtype=torch.int64)
        raise self._reader.unlisted(chunk, 0)
