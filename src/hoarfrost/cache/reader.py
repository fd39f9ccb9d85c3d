"""The bytes of a committed cache's records: read, checked and parsed. Nothing is kept between two calls."""

from __future__ import annotations

import zlib
from pathlib import Path

import torch

from ..errors import ArgumentError, CacheDirectoryError, CodecError, CorruptChunkError
from .chunk import Chunk
from .encoding import TargetForm, prepare_lengths, unpack_features
from .files import FEATURES_FILE, JOURNAL_FILE, TARGETS_FILE, read_file_at
from .journal import Record
from .spec import CacheSpec

__all__ = ["Reader"]


class Reader:
    """Reads the records of the cache at `path`; `form` is its targets'."""

    def __init__(self, path: Path, spec: CacheSpec, form: TargetForm | None) -> None:
        self.path = path
        self.spec = spec
        self.form = form
        # Paths as text: joining them anew took a tenth of the time of reading a small record.
        self._names = {name: str(path / name) for name in (FEATURES_FILE, TARGETS_FILE)}

    def read(self, chunk: int, view: int, record: Record | None) -> Chunk:
        """What the journal's `record` of (chunk, view) vouches for; None where it has none.

        Raises:
            CorruptChunkError: missing, cut short or damaged; names chunk, view, path and reason.
            CacheDirectoryError: the whole directory has vanished.
        """
        if record is None or self.form is None:
            raise self.unlisted(chunk, view)
        payload = self._bytes(record, FEATURES_FILE, record.nbytes, record.offset, record.crc32)
        target_bytes = self._bytes(record, TARGETS_FILE, *self.form.span(self.spec, chunk), record.targets_crc32)
        try:
            # Lengths are as little believed as any size that was read.
            lengths = prepare_lengths(self.spec, chunk, record.lengths)
            packed = unpack_features(self.spec, chunk, view, payload, lengths)
        except (ArgumentError, CodecError) as error:
            raise self._corrupt(chunk, view, FEATURES_FILE, str(error)) from error
        ids = torch.tensor(record.sample_ids, dtype=torch.int64)
        sizes = None if lengths is None else torch.tensor(lengths, dtype=torch.int64)
        return Chunk(ids, self.form.parse(target_bytes), packed, self.spec, record.edition, sizes)

    def unlisted(self, chunk: int, view: int) -> CorruptChunkError:
        """The error of a record that the journal does not know."""
        return self._corrupt(chunk, view, JOURNAL_FILE, "missing from the journal")

    def _bytes(self, record: Record, name: str, nbytes: int, offset: int, crc32: int) -> bytes:
        place = (record.chunk, record.view, name)
        try:
            data = read_file_at(self._names[name], nbytes, offset)
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
