"""What an interrupted build left: recognised, verified, and either taken up again or discarded."""

from __future__ import annotations

import os
import zlib
from contextlib import nullcontext, suppress
from pathlib import Path

from ..errors import CacheError
from .encoding import TargetForm
from .files import (
    BUILDING_FILE,
    FEATURES_FILE,
    JOURNAL_FILE,
    TARGETS_FILE,
    foreign_file,
    fsync_directory,
    is_key,
    read_at,
    remove_tree,
)
from .fingerprint import Fingerprint
from .journal import Record, read_journal, write_line
from .locking import CacheLock
from .manifest import Manifest
from .spec import CacheSpec

__all__ = ["discard_stale", "recover"]

Records = dict[tuple[int, int], Record]


def discard_stale(root: Path, key: str) -> None:
    """Removes builds of other fingerprints that nobody is writing to, and what an interrupted drop left; what is not
    ours, or cannot be removed, stays. The caller holds the lock of `key`.
    """
    for path in (*root.glob("building-*"), *root.glob("discard-*")):
        begun, _, other = path.name.partition("-")
        if not is_key(other) or (other == key and begun == "building"):
            continue
        # Another run may be writing it at this moment: only who gets its lock may remove it. That it is in the way of
        # nothing but room is no reason not to build.
        with suppress(CacheError, OSError), nullcontext() if other == key else CacheLock(root, other):
            if foreign_file(path) is None:
                remove_tree(path)


def recover(path: Path, fingerprint: Fingerprint, spec: CacheSpec) -> tuple[TargetForm | None, Records]:
    """Makes the building directory, or takes up the one that is there; the targets' form and the verified
    records.

    Raises:
        CacheDirectoryError: the directory holds files that are not a cache's.
    """
    if path.exists():
        try:
            found = Manifest.read(path / BUILDING_FILE)
        except CacheError:
            found = None
        if found is not None and found.fingerprint == fingerprint and found.spec == spec:
            return found.targets, _verified(path, spec, found.targets)
        remove_tree(path)
    path.mkdir()
    fsync_directory(path.parent)
    return None, {}


def _verified(path: Path, spec: CacheSpec, form: TargetForm | None) -> Records:
    """The records whose features and targets are on disk as the journal says; files are cut to these."""
    files = [os.open(path / n, os.O_RDWR | os.O_CREAT, 0o666) for n in (FEATURES_FILE, TARGETS_FILE)]
    try:
        records: Records = {}
        journal = path / JOURNAL_FILE
        claimed = read_journal(journal.read_bytes()) if journal.exists() else {}
        for place, record in claimed.items():
            if form is None or place not in spec.records:
                continue
            targets = read_at(files[1], *form.span(spec, record.chunk))
            payload = read_at(files[0], record.nbytes, record.offset)
            if (zlib.crc32(payload), len(payload)) == (record.crc32, record.nbytes) and zlib.crc32(
                targets
            ) == record.targets_crc32:
                records[place] = record
        os.ftruncate(files[0], max((r.offset + r.nbytes for r in records.values()), default=0))
    finally:
        for fd in files:
            os.close(fd)
    temporary = journal.with_name(f"{journal.name}.tmp")
    temporary.write_bytes(b"".join(map(write_line, records.values())))
    temporary.replace(journal)
    return records
