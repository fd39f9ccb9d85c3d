"""A committed cache: opening, reading, verifying, healing and dropping it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CacheDirectoryError, CacheError, CodecError, CorruptChunkError, StaleCacheError
from .encoding import Chunk, Damage
from .files import (
    FEATURES_FILE,
    JOURNAL_FILE,
    MANIFEST_FILE,
    TARGETS_FILE,
    directory_errors,
    directory_nbytes,
    file_size,
    fsync_directory,
    is_key,
    read_at,
    remove_tree,
)
from .fingerprint import Fingerprint
from .journal import Record, read_journal
from .locking import CacheLock
from .manifest import Manifest
from .rewriting import rewrite_record
from .spec import CacheSpec
from .writer import CacheWriter

__all__ = ["Cache"]

# Healing one record takes a second; whoever holds the lock longer is building, not healing.
HEAL_WAIT_SECONDS = 30.0


class Cache:
    """The stored features of one frozen prefix, on disk. `open` and `create` make it.

    Reading opens no file for longer than a call and shares no state, so that threads may read at once, and
    a `Cache` may be pickled or forked. What is read equals what decoding the written bytes gives, or `read`
    raises.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.spec = manifest.spec
        self.fingerprint = manifest.fingerprint
        self._manifest = manifest
        # Paths as text: joining them anew took a tenth of the time of reading a small record.
        self._names = {name: str(path / name) for name in (FEATURES_FILE, TARGETS_FILE)}
        self._journal_size = -1
        self._records: dict[tuple[int, int], Record] = {}
        self._load_journal()

    @staticmethod
    def create(
        directory: str | os.PathLike[str],
        fingerprint: Fingerprint,
        spec: CacheSpec,
        *,
        budget_bytes: int | None = None,
    ) -> CacheWriter:
        """Begins the cache `<directory>/<fingerprint.key>`, or takes up an interrupted build of the same.

        Interrupted builds of other fingerprints in `directory` are removed unless someone is writing to them;
        committed caches and foreign files stay untouched.

        Raises:
            CacheBusyError: another process is writing the same cache; names the directory and the process.
            CacheDirectoryError: `directory` is a file or cannot be written.
        """
        return CacheWriter(Path(directory), fingerprint, spec, budget_bytes, Cache._at)

    @staticmethod
    def open(directory: str | os.PathLike[str], fingerprint: Fingerprint | None = None) -> Cache:
        """The cache in `directory`: the cache's own, or one that holds caches (where `fingerprint` says
        which).

        Raises:
            CacheDirectoryError: there is no cache, or several and no fingerprint.
            StaleCacheError: made from something else; names the first field that differs, with both values.
            CorruptChunkError: the manifest is damaged.
        """
        root = Path(directory)
        if (root / MANIFEST_FILE).exists():
            return _checked(Cache._at(root), fingerprint)
        with directory_errors(root, "opening"):
            held = sorted(p for p in root.iterdir() if is_key(p.name) and (p / MANIFEST_FILE).exists())
        if fingerprint is not None and root / fingerprint.key in held:
            return _checked(Cache._at(root / fingerprint.key), fingerprint)
        if not held:
            raise CacheDirectoryError(f"there is no committed cache in {root}")
        if fingerprint is not None:
            raise StaleCacheError(_nearest(held, fingerprint))
        if len(held) > 1:
            names = ", ".join(p.name for p in held)
            raise CacheDirectoryError(f"{root} holds {len(held)} caches ({names}); open one of these directories")
        return Cache._at(held[0])

    @staticmethod
    def _at(path: Path) -> Cache:
        with directory_errors(path, "opening"):
            return Cache(path, Manifest.read(path / MANIFEST_FILE))

    @property
    def nbytes(self) -> int:
        """Bytes that the cache takes on disk."""
        with directory_errors(self.path, "measuring"):
            return directory_nbytes(self.path)

    @property
    def dense_nbytes(self) -> int:
        """Bytes that the stored records would take in float32."""
        return (
            self.spec.dense_nbytes if self.whole else sum(self.spec.dense_nbytes_of(*place) for place in self._records)
        )

    @property
    def whole(self) -> bool:
        """Whether all records were there when it was committed, so that a missing one is damage."""
        return self._manifest.whole

    def read(self, chunk: int, view: int) -> Chunk:
        """One record. Safe from many threads; the interpreter lock is released while it reads and
        decompresses.

        Raises:
            ArgumentError: there is no such chunk or view.
            CorruptChunkError: missing, cut short or damaged; names chunk, view, path and reason.
            CacheDirectoryError: the whole directory has vanished, or the cache was dropped.
        """
        self.spec.check_record(chunk, view)
        record = self._records.get((chunk, view))
        try:
            return self._read(chunk, view, record)
        except CorruptChunkError:
            # Another process, or another thread, may have healed the record since the journal was read.
            self._load_journal()
            healed = self._records.get((chunk, view))
            if healed == record:
                raise
        return self._read(chunk, view, healed)

    def heal(
        self,
        chunk: int,
        view: int,
        features: Tensor,
        *,
        targets: Tensor | None = None,
        sample_ids: Sequence[int] | Tensor | None = None,
    ) -> Chunk:
        """Writes a record anew, from features that were computed again (`[n, C, H, W]`, as for `append`), and reads it.

        The new bytes go where no record lies and the journal's new line comes last, so that a crash leaves the
        old state. `targets` and `sample_ids` are needed only where the stored ones are damaged too; those
        given must be the same as those that the cache was built with.

        Raises:
            ArgumentError: a place, shape or dtype that the spec has not, or targets or ids that differ.
            CorruptChunkError: targets or ids are damaged too, and were not given.
            CacheBusyError: another process is healing, and did not end within 30 seconds.
            BudgetError: the disk is full.
            CacheDirectoryError: the directory has vanished or cannot be written.
        """
        return self._rewrite(chunk, view, features, targets, sample_ids)

    def renew(
        self,
        chunk: int,
        view: int,
        edition: int,
        features: Tensor,
        *,
        targets: Tensor,
        sample_ids: Sequence[int] | Tensor,
        budget_bytes: int | None = None,
    ) -> Chunk:
        """Writes another rendition of a record in its place, or the first one where it was never written.

        As `heal`, but the bytes take the room of earlier ones that nothing needs, and are not forced to the disk: what
        a power failure destroys shows by its checksum, and is computed again.

        Args:
            edition: which rendition this is; `edition` and `read` tell it.
            budget_bytes: that the whole cache may take.

        Raises:
            BudgetError: it would take more than `budget_bytes`, or the disk is full. The old record stays.
            Further: as `heal`.
        """
        return self._rewrite(chunk, view, features, targets, sample_ids, edition, budget_bytes)

    def edition(self, chunk: int, view: int) -> int | None:
        """Which rendition the record shows, or None where there is no record. Reads nothing from disk."""
        record = self._records.get((chunk, view))
        return None if record is None else record.edition

    def written(self) -> tuple[int, ...]:
        """What changes when anyone writes to the data files, or puts others in their place: their inodes, sizes in
        bytes and times of change."""
        marks: list[int] = []
        for name in (FEATURES_FILE, TARGETS_FILE):
            with suppress(OSError):
                found = (self.path / name).stat()
                marks += (found.st_ino, found.st_size, found.st_mtime_ns)
        return tuple(marks)

    def _rewrite(
        self,
        chunk: int,
        view: int,
        features: Tensor,
        targets: Tensor | None,
        sample_ids: Sequence[int] | Tensor | None,
        edition: int | None = None,
        budget_bytes: int | None = None,
    ) -> Chunk:
        self.spec.check_record(chunk, view)
        if not self.path.is_dir():
            raise CacheDirectoryError(f"the cache directory {self.path} has vanished")
        with CacheLock(self.path.parent, self.path.name, wait_seconds=HEAL_WAIT_SECONDS):
            self._load_journal()
            record = rewrite_record(
                self.path,
                self.spec,
                self._manifest.targets,
                self._records,
                chunk,
                view,
                features,
                targets,
                sample_ids,
                edition=edition,
                budget_bytes=budget_bytes,
            )
            # What this process wrote it need not read: a journal of many renewals is long.
            self._records[chunk, view] = record
            self._journal_size = file_size(self.path / JOURNAL_FILE)
            return self._read(chunk, view, record)

    def verify(self) -> list[Damage]:
        """Reads every record; those that cannot be read, in order. Empty: the cache is whole.

        Records that a cache recorded epoch by epoch does not hold yet are no damage.
        """
        damages = []
        for chunk, view in sorted(self.spec.records if self.whole else self._records):
            try:
                self.read(chunk, view)
            except CorruptChunkError as error:
                damages.append(Damage(chunk, view, self.path, str(error)))
        return damages

    def drop(self) -> None:
        """Removes the cache from disk. It disappears at once, under another name, before its files go.

        Raises:
            CacheBusyError: another process is healing it.
            CacheDirectoryError: it cannot be removed.
        """
        root, key = self.path.parent, self.path.name
        if not self.path.exists():
            return
        with CacheLock(root, key), directory_errors(self.path, "dropping"):
            aside = root / f"discard-{key}"
            if aside.exists():
                remove_tree(aside)
            self.path.rename(aside)
            fsync_directory(root)
            remove_tree(aside)

    def sample_ids(self, chunk: int) -> Tensor:
        """The ids of a chunk's samples, int64 `[n]`, from the journal alone.

        Raises:
            CorruptChunkError: no view's line in the journal is left.
        """
        self.spec.check_record(chunk, 0)
        for view in range(self.spec.views):
            record = self._records.get((chunk, view))
            if record is not None:
                return torch.tensor(record.sample_ids, dtype=torch.int64)
        raise self._corrupt(chunk, 0, JOURNAL_FILE, "missing from the journal")

    def _load_journal(self) -> None:
        """Reads the journal where it has grown since it was last read."""
        try:
            data = (self.path / JOURNAL_FILE).read_bytes()
        except OSError:
            # What was known stays known: reading on is safe, since every record carries its checksum.
            return
        if len(data) == self._journal_size:
            return
        places = self.spec.records
        self._records = {place: r for place, r in read_journal(data).items() if place in places}
        self._journal_size = len(data)

    def _read(self, chunk: int, view: int, record: Record | None) -> Chunk:
        form = self._manifest.targets
        if record is None or form is None:
            raise self._corrupt(chunk, view, JOURNAL_FILE, "missing from the journal")
        payload = self._bytes(record, FEATURES_FILE, record.nbytes, record.offset, record.crc32)
        rows = self.spec.rows(chunk)
        offset = chunk * self.spec.chunk_size * form.nbytes
        target_bytes = self._bytes(record, TARGETS_FILE, rows * form.nbytes, offset, record.targets_crc32)
        shape = self.spec.physical_shape(chunk, view)
        try:
            packed = self.spec.codec_of(view).unpack(payload, shape, self.spec.dtype, self.spec.codec_axis)
        except CodecError as error:
            raise self._corrupt(chunk, view, FEATURES_FILE, str(error)) from error
        ids = torch.tensor(record.sample_ids, dtype=torch.int64)
        return Chunk(ids, form.parse(target_bytes), packed, self.spec, record.edition)

    def _bytes(self, record: Record, name: str, nbytes: int, offset: int, crc32: int) -> bytes:
        place = (record.chunk, record.view, name)
        try:
            fd = os.open(self._names[name], os.O_RDONLY)
            try:
                data = read_at(fd, nbytes, offset)
            finally:
                os.close(fd)
        except FileNotFoundError as error:
            if not self.path.is_dir():
                raise CacheDirectoryError(f"the cache directory {self.path} has vanished") from error
            raise self._corrupt(*place, "missing: there is no such file") from error
        except OSError as error:
            raise self._corrupt(*place, f"cannot be read: {error.strerror}") from error
        if len(data) < nbytes:
            raise self._corrupt(*place, f"truncated: {len(data)} of {nbytes} bytes at offset {offset}")
        if zlib.crc32(data) != crc32:
            raise self._corrupt(*place, f"checksum: {nbytes} bytes at offset {offset} do not match the journal's crc32")
        return data

    def _corrupt(self, chunk: int, view: int, name: str, reason: str) -> CorruptChunkError:
        return CorruptChunkError(f"chunk {chunk}, view {view} in {self.path / name}: {reason}")


def _checked(cache: Cache, fingerprint: Fingerprint | None) -> Cache:
    difference = "" if fingerprint is None else fingerprint.explain(cache.fingerprint)
    if difference:
        raise StaleCacheError(f"{difference}: {cache.path} was made from something else")
    return cache


def _nearest(held: list[Path], fingerprint: Fingerprint) -> str:
    """The first difference to the most similar of several caches: what most likely was changed."""
    stored = []
    for path in held:
        try:
            stored.append((path, Manifest.read(path / MANIFEST_FILE).fingerprint))
        except CacheError:
            continue
    if not stored:
        return f"none of the {len(held)} caches in {held[0].parent} can be read"
    path, nearest = min(stored, key=lambda pair: len(fingerprint.differences(pair[1])))
    return f"{fingerprint.explain(nearest)}: {path} was made from something else"
