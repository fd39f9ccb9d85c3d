"""Writing one record of a finished cache anew, so that a crash at any moment leaves the old state or the new."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ..errors import ArgumentError, BudgetError, CorruptChunkError
from .encoding import TargetForm, encode_features, prepare_ids, prepare_targets
from .files import (
    FEATURES_FILE,
    JOURNAL_FILE,
    TARGETS_FILE,
    directory_errors,
    directory_nbytes,
    file_size,
    read_at,
    write_at,
)
from .journal import Record, write_line
from .spec import CacheSpec

__all__ = ["rewrite_record"]


def rewrite_record(
    path: Path,
    spec: CacheSpec,
    form: TargetForm | None,
    records: Mapping[tuple[int, int], Record],
    chunk: int,
    view: int,
    features: Tensor,
    targets: Tensor | None,
    sample_ids: Sequence[int] | Tensor | None,
    *,
    edition: int | None = None,
    budget_bytes: int | None = None,
) -> Record:
    """See `Cache.heal` and `Cache.renew`; the record as it now lies. The caller holds the lock, and has just read
    `records`.

    Args:
        edition: of what is written; None: the record's own, which is damaged and must last again.
    """
    twins = [records[chunk, v] for v in range(spec.views) if (chunk, v) in records]
    ids = _ids(path, spec, chunk, twins, sample_ids)
    payload = encode_features(spec, chunk, view, ids, features)
    if form is None:
        raise CorruptChunkError(f"{path} says nothing of its targets; drop the cache and build it again")
    stored = _stored_targets(path, spec, form, chunk)
    given = None if targets is None else prepare_targets(spec, chunk, targets, form)[1]
    known = {twin.targets_crc32 for twin in twins}
    if given is not None and known and zlib.crc32(given) not in known:
        raise ArgumentError(f"chunk {chunk} was built with other targets than those given to heal it")
    if given is None and zlib.crc32(stored) not in known:
        raise CorruptChunkError(f"the targets of chunk {chunk} in {path / TARGETS_FILE} are damaged: give them too")
    target_bytes = stored if given is None else given
    healed = edition is None
    if edition is None:
        before = records.get((chunk, view))
        edition = before.edition if before is not None else 0
    offset = _free_place(records.values(), len(payload))
    record = Record(chunk, view, offset, len(payload), zlib.crc32(payload), zlib.crc32(target_bytes), ids, edition)
    line = write_line(record)
    growth = max(0, offset + len(payload) - file_size(path / FEATURES_FILE)) + len(line) + 1
    if budget_bytes is not None and directory_nbytes(path) + growth > budget_bytes:
        raise BudgetError(f"chunk {chunk}, view {view} needs {growth:,} bytes more than the budget has left")
    with directory_errors(path, f"writing chunk {chunk}, view {view} anew", len(payload)):
        # What replaces a damaged record must last. A new rendition may be lost with the power: its checksum tells.
        if target_bytes != stored:
            _write(path / TARGETS_FILE, target_bytes, chunk * spec.chunk_size * form.nbytes, healed)
        _write(path / FEATURES_FILE, payload, offset, healed)
        journal = path / JOURNAL_FILE
        written = file_size(journal)
        # A newline first: a line that an earlier crash tore must not swallow this one. A journal that was
        # deleted under an open cache is written again with all that the cache still knows.
        known_lines = b"" if written else b"".join(map(write_line, records.values()))
        _write(journal, b"\n" + known_lines + line, written, healed)
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


def _ids(
    path: Path, spec: CacheSpec, chunk: int, twins: list[Record], sample_ids: Sequence[int] | Tensor | None
) -> tuple[int, ...]:
    given = None if sample_ids is None else prepare_ids(spec, chunk, sample_ids)
    if twins and given not in (None, twins[0].sample_ids):
        raise ArgumentError(f"chunk {chunk} was built with other sample ids than those given to heal it")
    ids = twins[0].sample_ids if twins else given
    if ids is None:
        raise CorruptChunkError(
            f"the journal of {path} has lost the sample ids of chunk {chunk}: give sample_ids and targets too"
        )
    return ids


def _stored_targets(path: Path, spec: CacheSpec, form: TargetForm, chunk: int) -> bytes:
    if not (path / TARGETS_FILE).exists():
        return b""
    fd = os.open(path / TARGETS_FILE, os.O_RDONLY)
    try:
        return read_at(fd, spec.rows(chunk) * form.nbytes, chunk * spec.chunk_size * form.nbytes)
    finally:
        os.close(fd)


def _write(path: Path, data: bytes, offset: int, durably: bool) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        write_at(fd, data, offset)
        if durably:
            os.fsync(fd)
    finally:
        os.close(fd)
