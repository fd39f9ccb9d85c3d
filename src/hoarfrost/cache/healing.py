"""Writing one damaged record anew, in place, so that a crash at any moment leaves the old state or the
new.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from hoarfrost.cache.files import FEATURES_FILE, JOURNAL_FILE, TARGETS_FILE, directory_errors, read_at, write_at
from hoarfrost.cache.journal import Record, write_line
from hoarfrost.cache.record import TargetForm, encode_features, prepare_ids, prepare_targets
from hoarfrost.cache.spec import CacheSpec
from hoarfrost.errors import ArgumentError, CorruptChunkError

__all__ = ["heal_record"]


def heal_record(
    path: Path,
    spec: CacheSpec,
    form: TargetForm | None,
    records: Mapping[tuple[int, int], Record],
    chunk: int,
    view: int,
    features: Tensor,
    targets: Tensor | None,
    sample_ids: Sequence[int] | Tensor | None,
) -> None:
    """See `Cache.heal`. The caller holds the lock, and has just read `records`."""
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
    with directory_errors(path, f"healing chunk {chunk}, view {view}", len(payload)):
        if target_bytes != stored:
            _write_durably(path / TARGETS_FILE, target_bytes, chunk * spec.chunk_size * form.nbytes)
        # Behind every byte that the journal speaks of, even where the file was cut short.
        end = max((r.offset + r.nbytes for r in records.values()), default=0)
        if (path / FEATURES_FILE).exists():
            end = max(end, (path / FEATURES_FILE).stat().st_size)
        _write_durably(path / FEATURES_FILE, payload, end)
        record = Record(chunk, view, end, len(payload), zlib.crc32(payload), zlib.crc32(target_bytes), ids)
        journal = path / JOURNAL_FILE
        size = journal.stat().st_size if journal.exists() else 0
        # A newline first: a line that an earlier crash tore must not swallow this one. A journal that was
        # deleted under an open cache is written again with all that the cache still knows.
        known_lines = b"" if size else b"".join(map(write_line, records.values()))
        _write_durably(journal, b"\n" + known_lines + write_line(record), size)


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


def _write_durably(path: Path, data: bytes, offset: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        write_at(fd, data, offset)
        os.fsync(fd)
    finally:
        os.close(fd)
