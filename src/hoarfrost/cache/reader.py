"""The bytes of a committed cache's records: read, checked and parsed. Nothing is kept between two calls."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import torch

from ..errors import ArgumentError, CacheDirectoryError, CodecError, CorruptChunkError
from ..untrusted import open_regular
from .chunk import Chunk
from .encoding import TargetForm, prepare_lengths, unpack_features
from .files import FEATURES_FILE, ID_NBYTES, JOURNAL_FILE, TARGETS_FILE, read_at
from .journal import Journal, Record
from .manifest import Manifest

__all__ = ["Reader"]


class Reader:
    """Reads the records of the cache at `path`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.spec = manifest.spec
        self.form: TargetForm | None = manifest.targets
        self._id = bytes.fromhex(manifest.id)
        # Paths as text: joining them anew took a tenth of the time of reading a small record.
        self._names = {name: str(path / name) for name in (FEATURES_FILE, TARGETS_FILE)}

    def read(self, chunk: int, view: int, record: Record | None, fetched: bytes | None = None) -> Chunk:
        """What the journal's `record` of (chunk, view) vouches for; None where it has none.

        Args:
            fetched: its features' bytes, held against their checksum, where they are not read here.

        Raises:
            CorruptChunkError: missing, cut short or damaged; names chunk, view, path and reason.
            CacheDirectoryError: the whole directory has vanished.
        """
        if record is None or self.form is None:
            raise self.unlisted(chunk, view)
        payload, target_bytes = self.raw(record) if fetched is None else (fetched, self._targets(record))
        try:
            # Lengths are as little believed as any size that was read.
            lengths = prepare_lengths(self.spec, chunk, record.lengths)
            packed = unpack_features(self.spec, chunk, view, payload, lengths)
        except (ArgumentError, CodecError, MemoryError) as error:
            raise self._corrupt(chunk, view, FEATURES_FILE, str(error)) from error
        ids = torch.tensor(record.sample_ids, dtype=torch.int64)
        sizes = None if lengths is None else torch.tensor(lengths, dtype=torch.int64)
        return Chunk(ids, self.form.parse(target_bytes), packed, self.spec, record.edition, sizes)

    def raw(self, record: Record) -> tuple[bytes, bytes]:
        """The bytes of a record and of its targets, as their checksums say; errors as `read`."""
        payload = self._bytes(record, FEATURES_FILE, record.nbytes, record.offset, record.crc32)
        return payload, self._targets(record)

    def _targets(self, record: Record) -> bytes:
        if self.form is None:
            raise self.unlisted(*record.place)
        return self._bytes(record, TARGETS_FILE, *self.form.span(self.spec, record.chunk), record.targets_crc32)

    def unlisted(self, chunk: int, view: int, journal: Journal | None = None) -> CorruptChunkError:
        """The error of a record that the journal does not know."""
        other = None if journal is None else journal.other
        why = "" if other is None else f", which is that of the cache with the id {other}"
        return self._corrupt(chunk, view, JOURNAL_FILE, f"missing from the journal{why}")

    def _bytes(self, record: Record, name: str, nbytes: int, offset: int, crc32: int) -> bytes:
        place = (record.chunk, record.view, name)
        try:
            begin, data = _read(self._names[name], nbytes, offset)
        except FileNotFoundError as error:
            if not self.path.is_dir():
                raise CacheDirectoryError(f"the cache directory {self.path} has vanished") from error
            raise self._corrupt(*place, "missing: there is no such file") from error
        except OSError as error:
            raise self._corrupt(*place, f"cannot be read: {error.strerror}") from error
        reasons = []
        if len(data) < nbytes:
            reasons.append(f"truncated: {len(data)} of {nbytes} bytes at offset {offset}")
        elif zlib.crc32(data) != crc32:
            reasons.append(f"checksum: {nbytes} bytes at offset {offset} do not match the journal's crc32")
        if begin != self._id and len(begin) == ID_NBYTES:
            reasons.append(f"another cache's: it begins with the id {begin.hex()} in place of {self._id.hex()}")
        if reasons:
            raise self._corrupt(*place, "; ".join(reasons))
        return data

    def _corrupt(self, chunk: int, view: int, name: str, reason: str) -> CorruptChunkError:
        return CorruptChunkError(f"chunk {chunk}, view {view} in {self.path / name}: {reason}")


def _read(path: str, nbytes: int, offset: int) -> tuple[bytes, bytes]:
    """What a data file begins with, and up to `nbytes` from `offset`."""
    fd = open_regular(path)
    try:
        return os.pread(fd, ID_NBYTES, 0), read_at(fd, nbytes, offset)
    finally:
        os.close(fd)
