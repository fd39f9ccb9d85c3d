"""The journal: one line of JSON for each record that was written, each line with a checksum of its own.

A line vouches for its record. A line that was torn, flipped or cut short is no line, nor is one of another cache, or
one that does not fit the cache's shape: its record counts as not written. Where two lines name the same (chunk, view),
the later one is right: that is how a record is healed.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..untrusted import open_regular, write_whole
from .files import ID_NBYTES, JOURNAL_FILE
from .fingerprint import canonical_json
from .spec import CacheSpec

__all__ = ["Journal", "Record", "compact", "line_nbytes", "read_journal", "read_line", "write_line"]

_MARK = b',"line_crc32":"'
_LONGEST_LINE = 1 << 24


@dataclass(frozen=True)
class Record:
    """Where the bytes of one (chunk, view) lie in the data file, what they are, and whose they are.

    `edition` says which of the view's renditions they show: 0 at first, and more with each time that it was drawn anew.
    `lengths` says how long each sample is; None where all have one shape. `cache` is the id of the cache. `digests`
    tells each sample's own bytes, as the data set gave them, in base64; None where nobody told. `frames` are height and
    width, sample by sample, of the images in which their renditions lie; None where all are alike.
    """

    chunk: int
    view: int
    offset: int
    nbytes: int
    crc32: int
    targets_crc32: int
    sample_ids: tuple[int, ...]
    edition: int = 0
    lengths: tuple[int, ...] | None = None
    cache: str = ""
    digests: str | None = None
    frames: tuple[int, ...] | None = None

    @property
    def place(self) -> tuple[int, int]:
        return self.chunk, self.view

    def fits(self, spec: CacheSpec) -> bool:
        """Whether a cache of this shape has a place for it."""
        return (
            self.chunk < spec.chunks
            and self.view < spec.views
            and len(self.sample_ids) == spec.rows(self.chunk)
            and (self.lengths is not None) == spec.ragged
            and (self.lengths is None or len(self.lengths) == len(self.sample_ids))
            and sum(self.lengths or ()) <= (spec.total_length or 0)
            and (self.frames is None or len(self.frames) == 2 * len(self.sample_ids))
        )


def write_line(record: Record) -> bytes:
    """The record's line: JSON with sorted keys, then `line_crc32`, the crc32 of all bytes in front of
    that comma.
    """
    fields = asdict(record)
    fields = {name: value for name, value in fields.items() if value is not None}
    body = canonical_json(fields)[:-1]
    return body + _MARK + b'%08x"}\n' % zlib.crc32(body)


def line_nbytes(
    sample_ids: Sequence[int],
    lengths: Sequence[int] | None = None,
    digests: str | None = None,
    frames: Sequence[int] | None = None,
) -> int:
    """Bytes that the line of a record of these samples takes, whatever its numbers are; nearly."""
    places = (1000, 1, 10**8, 10**6, 1 << 31, 1 << 31)
    record = Record(
        *(*places, tuple(sample_ids)),
        lengths=None if lengths is None else tuple(lengths),
        cache="0" * 2 * ID_NBYTES,
        digests=digests,
        frames=None if frames is None else tuple(frames),
    )
    return len(write_line(record))


def read_line(line: bytes) -> Record | None:
    """The record of a line without its newline, or None where the line is not as it was written."""
    body, mark, rest = line.rpartition(_MARK)
    if not mark or rest != b'%08x"}' % zlib.crc32(body):
        return None
    try:
        fields = json.loads(body + b"}")
        if not _plausible(fields):
            return None
        tuples = {name: tuple(fields[name]) for name in ("sample_ids", "lengths", "frames") if name in fields}
        return Record(**{**fields, **tuples})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _plausible(fields: dict[str, Any]) -> bool:
    """Whether the values are such as `write_line` writes: a line that fits its checksum may be anybody's."""
    sizes = ("chunk", "view", "offset", "nbytes", "crc32", "targets_crc32", "edition")
    if not all(type(n := fields.get(name, 0)) is int and 0 <= n < 1 << 62 for name in sizes):
        return False
    lists = [
        (fields["sample_ids"], -1 << 63, 63),
        (fields.get("lengths", []), 0, 63),
        (fields.get("frames", []), 1, 31),
    ]
    if not all(type(fields.get(name, "")) is str for name in ("cache", "digests")):
        return False
    return all(
        type(found) is list
        and set(map(type, found)) <= {int}
        and (not found or least <= min(found) <= max(found) < 1 << bits)
        for found, least, bits in lists
    )


def read_journal(path: Path, cache: str, spec: CacheSpec) -> tuple[dict[tuple[int, int], Record], str | None]:
    """Of a journal the last good line for each (chunk, view), and the id that its lines name where that is another.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    records: dict[tuple[int, int], Record] = {}
    other = None
    with os.fdopen(open_regular(path), "rb") as file:
        for record in filter(None, map(read_line, _lines(file))):
            if record.cache != cache:
                other = record.cache
            elif record.fits(spec):
                records[record.place] = record
    return records, other


def _lines(file: Any) -> Iterator[bytes]:
    """Line by line, so that no more is held than what lies between two newlines, and of that no more than of a line."""
    while line := file.readline(_LONGEST_LINE):
        yield line.removesuffix(b"\n")


def compact(path: Path, records: Iterable[Record]) -> None:
    """Writes the journal anew with these records' lines alone, whole or not at all."""
    write_whole(path, b"".join(map(write_line, records)), durably=True)


class Journal:
    """The journal of a finished cache, read again where somebody has written to it. `records`: its good lines.

    Attributes:
        other: the id of another cache, where lines of it were found.
    """

    def __init__(self, path: Path, cache: str, spec: CacheSpec) -> None:
        self.records: dict[tuple[int, int], Record] = {}
        self.other: str | None = None
        self._file = path / JOURNAL_FILE
        self._cache, self._spec = cache, spec
        self._read: tuple[int, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Reads what others have written since."""
        written = self._written()
        # What was known stays known where it cannot be read: reading on is safe, since every record has its checksum.
        if written and written != self._read:
            with suppress(OSError):
                self.records, self.other = read_journal(self._file, self._cache, self._spec)
                self._read = written

    def note(self, record: Record) -> None:
        """What this process wrote it need not read: a journal of many renewals is long."""
        self.records[record.place] = record
        self._read = self._written()

    def _written(self) -> tuple[int, ...]:
        """What changes when anybody writes to it, or puts another in its place; nothing where there is none."""
        try:
            found = self._file.stat(follow_symlinks=False)
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns
