"""Writing one record of a finished cache anew, so that a crash at any moment leaves the old state or the new."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import ArgumentError, BudgetError, CorruptChunkError
from .encoding import TargetForm, encode_features, prepare_ids, prepare_lengths, prepare_targets
from .files import (
    FEATURES_FILE,
    JOURNAL_FILE,
    TARGETS_FILE,
    directory_errors,
    directory_nbytes,
    file_size,
    read_file_at,
    write_at,
)
from .journal import Record, write_line
from .manifest import Manifest
from .replacement import Replacement
from .spec import CacheSpec

__all__ = ["rewrite_record"]


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
    stored = _stored_targets(path, spec, form, chunk)
    target_bytes = _targets(path, spec, form, twins, new, stored)
    before = records.get((chunk, view))
    kept = 0 if before is None else before.edition
    edition = kept if new.edition is None else new.edition
    offset = _free_place(records.values(), len(payload))
    crcs = zlib.crc32(payload), zlib.crc32(target_bytes)
    record = Record(chunk, view, offset, len(payload), *crcs, ids, edition, lengths)
    line = write_line(record)
    growth = max(0, offset + len(payload) - file_size(path / FEATURES_FILE)) + len(line) + 1
    if new.budget_bytes is not None and directory_nbytes(path) + growth > new.budget_bytes:
        raise BudgetError(f"chunk {chunk}, view {view} needs {growth:,} bytes more than the budget has left")
    with directory_errors(path, f"writing chunk {chunk}, view {view} anew", len(payload)):
        # What replaces a damaged record must last. A new rendition may be lost with the power: its checksum tells.
        if target_bytes != stored:
            _write(path / TARGETS_FILE, target_bytes, form.span(spec, chunk)[1], new.heals)
        _write(path / FEATURES_FILE, payload, offset, new.heals)
        journal = path / JOURNAL_FILE
        written = file_size(journal)
        # A newline first: a line that an earlier crash tore must not swallow this one. A journal that was
        # deleted under an open cache is written again with all that the cache still knows.
        known_lines = b"" if written else b"".join(map(write_line, records.values()))
        _write(journal, b"\n" + known_lines + line, written, new.heals)
    return record


def _free_place(records: Iterable[Record], nbytes: int) -> int:
    """Where so many bytes fit: the smallest gap between records that holds them, or behind all, however long the file.

    Records that are all drawn anew, many times over, need a tenth more room than at first.
    """
    gaps, end = [], 0
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


def _stored_targets(path: Path, spec: CacheSpec, form: TargetForm, chunk: int) -> bytes:
    """What lies there; nothing where it cannot be read: what is given is written then."""
    try:
        return read_file_at(path / TARGETS_FILE, *form.span(spec, chunk))
    except OSError:
        return b""


def _write(path: Path, data: bytes, offset: int, durably: bool) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        write_at(fd, data, offset)
        if durably:
            os.fsync(fd)
    finally:
        os.close(fd)
