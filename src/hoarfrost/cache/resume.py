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
    ID_NBYTES,
    JOURNAL_FILE,
    TARGETS_FILE,
    fsync_directory,
    is_key,
    open_data,
    read_at,
)
from .fingerprint import Fingerprint
from .journal import Record, compact, read_journal
from .locking import CacheLock
from .manifest import Manifest, new_id
from .removal import remove_tree
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
            remove_tree(path)


def recover(path: Path, fingerprint: Fingerprint, spec: CacheSpec) -> tuple[str, TargetForm | None, Records]:
    """Makes the building directory, or takes up the one that is there; its id, the targets' form and the verified
    records.

    Raises:
        CacheDirectoryError: the directory holds files that are not a cache's.
    """
    if os.path.lexists(path):
        try:
            found = None if path.is_symlink() else Manifest.read(path / BUILDING_FILE)
        except (CacheError, OSError):
            found = None
        if found is not None and found.fingerprint == fingerprint and found.spec == spec:
            return found.id, found.targets, _verified(path, found)
        remove_tree(path)
    path.mkdir()
    fsync_directory(path.parent)
    return new_id(), None, {}


def _verified(path: Path, manifest: Manifest) -> Records:
    """The records whose features and targets are on disk as the journal says; files are cut to these."""
    spec, form = manifest.spec, manifest.targets
    claimed: Records = {}
    with suppress(FileNotFoundError):
        claimed, _ = read_journal(path / JOURNAL_FILE, manifest.id, spec)
    files: list[int] = []
    try:
        files += (open_data(path / name, manifest.id) for name in (FEATURES_FILE, TARGETS_FILE))
        records: Records = {}
        for place, record in claimed.items():
            if form is None or record.offset < ID_NBYTES:
                continue
            targets = read_at(files[1], *form.span(spec, record.chunk))
            payload = read_at(files[0], record.nbytes, record.offset)
            if (zlib.crc32(payload), len(payload)) == (record.crc32, record.nbytes) and zlib.crc32(
                targets
            ) == record.targets_crc32:
                records[place] = record
        os.ftruncate(files[0], max((r.offset + r.nbytes for r in records.values()), default=ID_NBYTES))
    finally:
        for fd in files:
            os.close(fd)
    compact(path / JOURNAL_FILE, records.values())
    return records
