"""The journal: one line of JSON for each record that was written, each line with a checksum of its own.

A line vouches for its record. A line that was torn, flipped or cut short is no line: its record counts as
not written. Where two lines name the same (chunk, view), the later one is right: that is how a record is
healed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from .files import JOURNAL_FILE, file_size
from .fingerprint import canonical_json

__all__ = ["Journal", "Record", "read_journal", "write_line"]

_MARK = b',"line_crc32":"'


@dataclass(frozen=True)
class Record:
    """Where the bytes of one (chunk, view) lie in the data file, what they are, and whose they are.

    `edition` says which of the view's renditions they show: 0 at first, and more with each time that it was drawn anew.
    `lengths` says how long each sample is; None where all have one shape.
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


def write_line(record: Record) -> bytes:
    """The record's line: JSON with sorted keys, then `line_crc32`, the crc32 of all bytes in front of
    that comma.
    """
    fields = asdict(record)
    if record.lengths is None:
        del fields["lengths"]
    body = canonical_json(fields)[:-1]
    return body + _MARK + b'%08x"}\n' % zlib.crc32(body)


def read_line(line: bytes) -> Record | None:
    """The record of a line without its newline, or None where the line is not as it was written."""
    body, mark, rest = line.rpartition(_MARK)
    if not mark or rest != b'%08x"}' % zlib.crc32(body):
        return None
    try:
        fields = json.loads(body + b"}")
        tuples = {name: tuple(fields[name]) for name in ("sample_ids", "lengths") if name in fields}
        return Record(**{**fields, **tuples})
    except (ValueError, TypeError, KeyError):
        return None


def read_journal(data: bytes) -> dict[tuple[int, int], Record]:
    """The last good line for each (chunk, view)."""
    return {(r.chunk, r.view): r for r in _good(data.split(b"\n"))}


def _good(lines: Iterable[bytes]) -> Iterable[Record]:
    return (record for record in map(read_line, lines) if record is not None)


class Journal:
    """The journal of a finished cache, read again where it has grown. `records`: its good lines at known `places`."""

    def __init__(self, path: Path, places: set[tuple[int, int]]) -> None:
        self.records: dict[tuple[int, int], Record] = {}
        self._file = path / JOURNAL_FILE
        self._places = places
        self._size = -1
        self.refresh()

    def refresh(self) -> None:
        """Reads what others have written since."""
        try:
            data = self._file.read_bytes()
        except OSError:
            # What was known stays known: reading on is safe, since every record carries its checksum.
            return
        if len(data) == self._size:
            return
        self.records = {place: record for place, record in read_journal(data).items() if place in self._places}
        self._size = len(data)

    def note(self, record: Record) -> None:
        """What this process wrote it need not read: a journal of many renewals is long."""
        self.records[record.chunk, record.view] = record
        self._size = file_size(self._file)
