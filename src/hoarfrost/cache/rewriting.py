"""Writing one record of a finished cache anew, so that a crash at any moment leaves the old state or the new."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import ArgumentError, BudgetError, CorruptChunkError
from ..untrusted import open_regular
from .encoding import TargetForm, encode_features, prepare_ids, prepare_lengths, prepare_targets
from .files import (
    FEATURES_FILE,
    ID_NBYTES,
    JOURNAL_FILE,
    TARGETS_FILE,
    directory_errors,
    directory_nbytes,
    file_size,
    open_data,
    read_at,
    write_at,
)
from .journal import Record, compact, write_line
from .manifest import Manifest
from .replacement import Replacement
from .spec import CacheSpec

__all__ = ["rewrite_record"]

SHORT, LINES_FOR_ONE = 1 << 16, 4
"""Bytes of a journal that are not worth a thought, and lines for each that counts from which on it is written anew."""


def rewrite_record(
    path: Path, manifest: Manifest, records: Mapping[tuple[int, int], Record], new: Replacement
) -> Record:
    """See `Cache.heal` and `Cache.renew`; the record as it now lies. The caller holds the lock, and has just read
    `records`.
    """
    spec, form, chunk, view = manifest.spec, manifest.targets, new.chunk, new.view
    twins = [records[chunk, v] for v in range(spec.views) if (chunk, v) in records]
    ids = _ids(path, spec, twins, new)
    lengths = _lengths(path, spec, twins, new)
    payload = encode_features(spec, chunk, view, ids, new.features, lengths)
    if form is None:
        raise CorruptChunkError(f"{path} says nothing of its targets; drop the cache and build it again")
    stored = _stored_targets(path, manifest, form, chunk)
    target_bytes = _targets(path, spec, form, twins, new, stored)
    before = records.get((chunk, view))
    kept = 0 if before is None else before.edition
    edition = kept if new.edition is None else new.edition
    size = file_size(path / FEATURES_FILE)
    offset = _free_place((known for known in records.values() if known.offset + known.nbytes <= size), len(payload))
    crcs = zlib.crc32(payload), zlib.crc32(target_bytes)
    digests = next((twin.digests for twin in twins), new.digests)
    frames = next((twin.frames for twin in twins), None if new.frames is None else tuple(new.frames))
    record = Record(chunk, view, offset, len(payload), *crcs, ids, edition, lengths, manifest.id, digests, frames)
    line = write_line(record)
    growth = max(0, offset + len(payload) - size) + len(line) + 1
    if new.budget_bytes is not None and directory_nbytes(path) + growth > new.budget_bytes:
        raise BudgetError(f"chunk {chunk}, view {view} needs {growth:,} bytes more than the budget has left")
    with directory_errors(path, f"writing chunk {chunk}, view {view} anew", len(payload)):
        # What replaces a damaged record must last. A new rendition may be lost with the power: its checksum tells.
        if target_bytes != stored:
            place = form.span(spec, chunk)[1]
            _write(open_data(path / TARGETS_FILE, manifest.id), target_bytes, place, new.heals)
        _write(open_data(path / FEATURES_FILE, manifest.id), payload, offset, new.heals)
        journal = path / JOURNAL_FILE
        written = file_size(journal)
        # A newline first: a line that an earlier crash tore must not swallow this one. A journal that was
        # deleted under an open cache is written again with all that the cache still knows.
        known_lines = b"" if written else b"".join(map(write_line, records.values()))
        fd = open_regular(journal, os.O_RDWR | os.O_CREAT)
        _write(fd, b"\n" + known_lines + line, written, new.heals)
        # Each renewal leaves a line that no longer counts.
        if written > SHORT and written > LINES_FOR_ONE * len(line) * len(records):
            compact(journal, {**records, record.place: record}.values())
    return record


def _free_place(records: Iterable[Record], nbytes: int) -> int:
    """Where so many bytes fit: the smallest gap between records that holds them, or behind all, however long the file.

    Records that are all drawn anew, many times over, need a tenth more room than at first.
    """
    gaps, end = [], ID_NBYTES
    for begin, until in sorted((record.offset, record.offset + record.nbytes) for record in records):
        if begin - end >= nbytes:
            gaps.append((begin - end, end))
        end = max(end, until)
    return min(gaps)[1] if gaps else end


def _ids(path: Path, spec: CacheSpec, twins: list[Record], new: Replacement) -> tuple[int, ...]:
    given = None if new.sample_ids is None else prepare_ids(spec, new.chunk, new.sample_ids)
    if twins and given not in (None, twins[0].sample_ids):
        raise ArgumentError(f"chunk {new.chunk} was built with other sample ids than those given to heal it")
    ids = twins[0].sample_ids if twins else given
    if ids is None:
        raise CorruptChunkError(
            f"the journal of {path} has lost the sample ids of chunk {new.chunk}: give sample_ids and targets too"
        )
    return ids


def _lengths(path: Path, spec: CacheSpec, twins: list[Record], new: Replacement) -> tuple[int, ...] | None:
    if new.lengths is None and spec.ragged and twins:
        return prepare_lengths(spec, new.chunk, twins[0].lengths)
    given = prepare_lengths(spec, new.chunk, new.lengths)
    if twins and given != twins[0].lengths:
        raise ArgumentError(f"chunk {new.chunk} in {path} was built with other lengths than those given to heal it")
    return given


def _targets(
    path: Path, spec: CacheSpec, form: TargetForm, twins: list[Record], new: Replacement, stored: bytes
) -> bytes:
    given = None if new.targets is None else prepare_targets(spec, new.chunk, new.targets, form)[1]
    known = {twin.targets_crc32 for twin in twins}
    if given is not None and known and zlib.crc32(given) not in known:
        raise ArgumentError(f"chunk {new.chunk} was built with other targets than those given to heal it")
    if given is None and zlib.crc32(stored) not in known:
        raise CorruptChunkError(f"the targets of chunk {new.chunk} in {path / TARGETS_FILE} are damaged: give them too")
    return stored if given is None else given


def _stored_targets(path: Path, manifest: Manifest, form: TargetForm, chunk: int) -> bytes:
    """What lies there; nothing where it cannot be read, or is another cache's: what is given is written then."""
    try:
        fd = open_regular(path / TARGETS_FILE)
    except OSError:
        return b""
    try:
        own = read_at(fd, ID_NBYTES, 0) == bytes.fromhex(manifest.id)
        return read_at(fd, *form.span(manifest.spec, chunk)) if own else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def _write(fd: int, data: bytes, offset: int, durably: bool) -> None:
    """Writes, and closes the descriptor."""
    try:
        write_at(fd, data, offset)
        if durably:
            os.fsync(fd)
    finally:
        os.close(fd)
