"""Building a cache: records are appended under a journal, and nothing is visible before `commit`."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from ..codecs import Packed
from ..errors import ArgumentError, BudgetError, CacheDirectoryError, CorruptChunkError
from ..untrusted import open_regular
from .encoding import TargetForm, encode_features, prepare_ids, prepare_lengths, prepare_targets, unpack_features
from .files import (
    BUILDING_FILE,
    FEATURES_FILE,
    ID_NBYTES,
    JOURNAL_FILE,
    MANIFEST_FILE,
    TARGETS_FILE,
    building_path,
    directory_errors,
    discard_path,
    fsync_directory,
    open_data,
    read_at,
    write_at,
)
from .fingerprint import Fingerprint
from .journal import Record, write_line
from .locking import CacheLock
from .manifest import Manifest
from .removal import remove_tree
from .resume import discard_stale, recover
from .spec import CacheSpec

__all__ = ["CacheWriter"]

Opened = TypeVar("Opened")

# What the manifest's totals and checksum add to the building file that it grows from.
_MANIFEST_MARGIN = 512


class CacheWriter(Generic[Opened]):
    """A cache that is being built; `Cache.create` makes it, and `commit` gives a `Cache`.

    It lies in `building-<key>` until `commit` renames it. As a context it closes at the end: what was neither
    committed nor aborted stays on disk and is resumed by the next `Cache.create` with the same fingerprint
    and spec. `append` may be called from many threads; they encode side by side and write in turn.
    """

    def __init__(
        self,
        root: Path,
        fingerprint: Fingerprint,
        spec: CacheSpec,
        budget_bytes: int | None,
        open_cache: Callable[[Path], Opened],
        wait_seconds: float = 0.0,
    ) -> None:
        if budget_bytes is not None and budget_bytes < 1:
            raise ArgumentError(f"budget_bytes must be positive, not {budget_bytes}")
        self.path = building_path(root, fingerprint.key)
        self.fingerprint = fingerprint
        self.spec = spec
        self.budget_bytes = budget_bytes
        self._open_cache = open_cache
        self._final = root / fingerprint.key
        self._mutex = threading.Lock()
        self._files: dict[str, int] = {}
        with directory_errors(root, "making the directory"):
            root.mkdir(parents=True, exist_ok=True)
        self._lock = CacheLock(root, fingerprint.key, wait_seconds)
        try:
            with directory_errors(self.path, "beginning the build"):
                discard_stale(root, fingerprint.key)
                self.id, self._form, self._records = recover(self.path, fingerprint, spec)
                if not (self.path / BUILDING_FILE).exists():
                    self._write_building_file(self._form)
                for name in (FEATURES_FILE, TARGETS_FILE):
                    self._files[name] = open_data(self.path / name, self.id)
                self._files[JOURNAL_FILE] = open_regular(self.path / JOURNAL_FILE, os.O_RDWR | os.O_CREAT)
            self._end = max((r.offset + r.nbytes for r in self._records.values()), default=ID_NBYTES)
            self._journal_end = os.fstat(self._files[JOURNAL_FILE]).st_size
        except BaseException:
            self.close()
            raise

    @property
    def done(self) -> set[tuple[int, int]]:
        """The (chunk, view) that are written and, where an interrupted build left them, verified."""
        return set(self._records)

    @property
    def nbytes(self) -> int:
        """Bytes that the cache takes so far, its targets and manifest included."""
        with directory_errors(self.path, "measuring"):
            return self._nbytes()

    def _nbytes(self) -> int:
        return self._end + self._journal_end + self._fixed_nbytes(self._form)

    def append(
        self,
        chunk: int,
        view: int,
        sample_ids: Sequence[int] | Tensor,
        targets: Tensor,
        features: Tensor,
        lengths: Sequence[int] | Tensor | None = None,
        digests: str | None = None,
        frames: Sequence[int] | None = None,
    ) -> int:
        """Encodes and writes one record; the bytes that it took in the data file.

        `features` is `[n, C, H, W]` (logical order, cut to the view's stored channels), `targets` a numeric
        tensor `[n, ...]`, `sample_ids` n integers; both must be the same for all views of a chunk, and so must
        `lengths` where samples differ in length: then `features` is `[lengths.sum(), ...]`. `digests` and `frames` go
        into the journal; see `Record`.

        Raises:
            ArgumentError: a place, shape or dtype that the spec has not; a record that is there already; ids, targets
                or lengths other than the chunk's under another view.
            BudgetError: the record would pass `budget_bytes`, or the disk is full. It is not written, those before
                stay.
            CacheDirectoryError: the directory has vanished or cannot be written.
            NonFiniteError, CodecError: as `Codec.encode`; names the sample.
        """
        self.spec.check_record(chunk, view)
        if (chunk, view) in self._records:
            raise ArgumentError(f"chunk {chunk}, view {view} is written already; skip what writer.done holds")
        ids = prepare_ids(self.spec, chunk, sample_ids)
        form, target_bytes = prepare_targets(self.spec, chunk, targets, self._form)
        sizes = prepare_lengths(self.spec, chunk, lengths)
        payload = encode_features(self.spec, chunk, view, ids, features, sizes)
        with self._mutex, directory_errors(self.path, f"writing chunk {chunk}, view {view}"):
            self._check_open()
            if (chunk, view) in self._records:
                raise ArgumentError(f"chunk {chunk}, view {view} was written by another thread meanwhile")
            crcs = zlib.crc32(payload), zlib.crc32(target_bytes)
            record = Record(
                *(chunk, view, self._end, len(payload), *crcs, ids),
                lengths=sizes,
                cache=self.id,
                digests=digests,
                frames=None if frames is None else tuple(frames),
            )
            self._check_twins(record)
            if self._form is not None and self._form != form:
                prepare_targets(self.spec, chunk, targets, self._form)
            self._take_form(form)
            self._write(record, form, payload, target_bytes)
        return len(payload)

    def adopt(self, part: CacheWriter[Opened]) -> None:
        """Writes what another one of the same cache holds and this one lacks, byte for byte.

        Raises:
            CorruptChunkError: a record of it cannot be read back, or its targets are of another form.
            BudgetError, CacheDirectoryError: as `append`.
        """
        form = part._form
        with self._mutex, directory_errors(self.path, f"taking over what lies in {part.path}"):
            self._check_open()
            for place in sorted(part.done - self.done):
                record = part._records[place]
                if form is None or self._form not in (None, form):
                    raise CorruptChunkError(f"{part.path} has targets of another form than {self.path}")
                payload = read_at(part._files[FEATURES_FILE], record.nbytes, record.offset)
                targets = read_at(part._files[TARGETS_FILE], *form.span(self.spec, record.chunk))
                if (zlib.crc32(payload), zlib.crc32(targets)) != (record.crc32, record.targets_crc32):
                    raise CorruptChunkError(f"chunk {place[0]}, view {place[1]} in {part.path}: it is damaged")
                own = replace(record, offset=self._end, cache=self.id)
                self._check_twins(own)
                self._take_form(form)
                self._write(own, form, payload, targets)

    def _take_form(self, form: TargetForm) -> None:
        """The first record says what all targets are like."""
        if self._form is None:
            self._write_building_file(form)
            self._form = form

    def packed(self, chunk: int, view: int) -> Packed:
        """The features of a record that is written: what further views are derived from while the cache is built.

        Raises:
            CorruptChunkError, CacheDirectoryError: what was written cannot be read back.
        """
        record = self._records[chunk, view]
        with directory_errors(self.path, f"reading chunk {chunk}, view {view} again"):
            payload = read_at(self._files[FEATURES_FILE], record.nbytes, record.offset)
        if zlib.crc32(payload) != record.crc32:
            raise CorruptChunkError(f"chunk {chunk}, view {view} in {self.path}: what was just written is damaged")
        return unpack_features(self.spec, chunk, view, payload, record.lengths)

    def commit(self, *, whole: bool = True, unreadable: Mapping[int, str] | None = None) -> Opened:
        """Makes the cache visible, durably, in place of an older one with the same fingerprint; opens it.

        Args:
            whole: False for a cache of which one record or more is there; `Cache.renew` adds the others.
            unreadable: samples whose rows are another's, and why.

        Raises:
            ArgumentError: records are missing; says how many and which first. Or lengths are not those of the spec.
            BudgetError: the disk is full. What was built stays and can be resumed.
            CacheDirectoryError: the directory has vanished or cannot be written.
        """
        with self._mutex:
            self._check_open()
            missing = sorted(self.spec.records - self.done)
            if missing and (whole or not self._records):
                raise ArgumentError(
                    f"{len(missing)} of {len(self.spec.records)} records are missing, "
                    f"the first is chunk {missing[0][0]}, view {missing[0][1]}"
                )
            long = sum(sum(r.lengths or ()) for r in self._records.values() if r.view == 0)
            if whole and self.spec.ragged and long != self.spec.total_length:
                raise ArgumentError(
                    f"all samples together are {long} long, not {self.spec.total_length} as the spec says"
                )
            with directory_errors(self.path, "committing"):
                for name in (FEATURES_FILE, TARGETS_FILE, JOURNAL_FILE):
                    os.fsync(self._files[name])
                totals = {
                    "records": len(self._records),
                    "feature_bytes": sum(r.nbytes for r in self._records.values()),
                    "dense_bytes": self.spec.dense_nbytes,
                }
                manifest = Manifest(self.id, self.fingerprint, self.spec, self._form, totals, dict(unreadable or {}))
                manifest.write(self.path / MANIFEST_FILE)
                self._make_visible()
            self.close()
        return self._open_cache(self._final)

    def abort(self) -> None:
        """Removes what was built and lets others in; after `commit` or a first `abort` it does nothing.

        Raises:
            CacheDirectoryError: it cannot be removed; others are let in all the same.
        """
        if not self._files:
            return
        try:
            with directory_errors(self.path, "removing the build"):
                if self.path.exists():
                    remove_tree(self.path)
        finally:
            self.close()

    def close(self) -> None:
        """Lets others in, and leaves what was built for a later `Cache.create` to resume."""
        for fd in self._files.values():
            with suppress(OSError):
                os.close(fd)
        self._files = {}
        self._lock.release()

    def __enter__(self) -> CacheWriter[Opened]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self._files:
            raise ArgumentError("the writer is closed: it was committed, aborted or left")
        if os.fstat(self._files[FEATURES_FILE]).st_nlink == 0:
            raise CacheDirectoryError(f"the cache directory {self.path} has vanished while it was being built")

    def _check_twins(self, record: Record) -> None:
        """A chunk's samples and targets are stored once, so that all its views must agree on them."""
        for view in range(self.spec.views):
            twin = self._records.get((record.chunk, view))
            if twin is not None and twin.sample_ids != record.sample_ids:
                raise ArgumentError(f"chunk {record.chunk} has other sample ids under view {view}")
            if twin is not None and twin.targets_crc32 != record.targets_crc32:
                raise ArgumentError(f"chunk {record.chunk} has other targets under view {view}")
            if twin is not None and twin.lengths != record.lengths:
                raise ArgumentError(f"chunk {record.chunk} has other lengths under view {view}")

    def _fixed_nbytes(self, form: TargetForm | None) -> int:
        """Bytes that do not depend on what is still to be written: all targets, and the manifest."""
        manifest = (self.path / BUILDING_FILE).stat().st_size + _MANIFEST_MARGIN
        return manifest + (0 if form is None else ID_NBYTES + form.nbytes * self.spec.samples)

    def _write(self, record: Record, form: TargetForm, payload: bytes, target_bytes: bytes) -> None:
        line = write_line(record)
        self._check_budget(len(payload) + len(line))
        try:
            with directory_errors(
                self.path, f"writing chunk {record.chunk}, view {record.view}", len(payload) + len(line)
            ):
                write_at(self._files[FEATURES_FILE], payload, record.offset)
                write_at(self._files[TARGETS_FILE], target_bytes, form.span(self.spec, record.chunk)[1])
                # The line comes last: what it does not vouch for was never written.
                write_at(self._files[JOURNAL_FILE], line, self._journal_end)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._files[FEATURES_FILE], self._end)
                os.ftruncate(self._files[JOURNAL_FILE], self._journal_end)
            raise
        self._records[record.chunk, record.view] = record
        self._end += len(payload)
        self._journal_end += len(line)

    def _check_budget(self, needed: int) -> None:
        if self.budget_bytes is None:
            return
        used = self._nbytes()
        if used + needed <= self.budget_bytes:
            return
        written = len(self._records)
        per_record = (self._end + self._journal_end + needed) / (written + 1)
        per_sample = per_record * len(self.spec.records) / self.spec.samples
        total = int(per_sample * self.spec.samples) + self._fixed_nbytes(self._form)
        fitting = max(0, int((self.budget_bytes - self._fixed_nbytes(self._form)) / per_sample))
        raise BudgetError(
            f"the next record needs {needed:,} bytes, but {max(0, self.budget_bytes - used):,} are left of the budget "
            f"of {self.budget_bytes:,} bytes; the whole cache needs about {total:,} bytes, and at this rate the "
            f"largest that fits has {fitting:,} of {self.spec.samples:,} samples; raise the budget or choose a "
            "stronger codec"
        )

    def _write_building_file(self, form: TargetForm | None) -> None:
        Manifest(self.id, self.fingerprint, self.spec, form, {}).write(self.path / BUILDING_FILE)

    def _make_visible(self) -> None:
        root = self.path.parent
        fsync_directory(self.path)
        # An older cache of the same name steps aside first; a crash in between leaves the finished build to
        # resume.
        aside = discard_path(root, self._final.name)
        if aside.exists():
            remove_tree(aside)
        if self._final.exists():
            self._final.rename(aside)
        self.path.rename(self._final)
        (self._final / BUILDING_FILE).unlink()
        fsync_directory(root)
        if aside.exists():
            remove_tree(aside)
