"""Which cache of a directory is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import CacheDirectoryError, CacheError, CorruptChunkError, StaleCacheError
from .files import MANIFEST_FILE, directory_errors, directory_nbytes, is_key
from .fingerprint import Fingerprint
from .manifest import Manifest

__all__ = ["find_alike", "find_cache"]

LEAST_RECORD = 10
"""Bytes that a record takes at the least; a manifest that speaks of more is not believed."""


def find_cache(root: Path, fingerprint: Fingerprint | None) -> tuple[Path, Manifest]:
    """Where the cache lies that `Cache.open` opens, and its manifest; see there, errors too."""
    with directory_errors(root, "opening"):
        return _find(root, fingerprint)


def _find(root: Path, fingerprint: Fingerprint | None) -> tuple[Path, Manifest]:
    if (root / MANIFEST_FILE).exists():
        return _checked(root, fingerprint)
    held = sorted(p for p in root.iterdir() if is_key(p.name) and (p / MANIFEST_FILE).exists())
    if fingerprint is not None and root / fingerprint.key in held:
        return _checked(root / fingerprint.key, fingerprint)
    if not held:
        raise CacheDirectoryError(f"there is no committed cache in {root}")
    if fingerprint is not None:
        raise StaleCacheError(_nearest(held, fingerprint))
    if len(held) > 1:
        names = ", ".join(p.name for p in held)
        raise CacheDirectoryError(f"{root} holds {len(held)} caches ({names}); open one of these directories")
    return _checked(held[0], None)


def find_alike(root: Path, fingerprint: Fingerprint, names: Sequence[str]) -> list[tuple[Path, Manifest]]:
    """The finished caches in a directory that agree with a fingerprint in the fields of these names, and can be read;
    the one that differs least comes first."""
    found = []
    with directory_errors(root, "listing"):
        paths = sorted(root.iterdir()) if root.is_dir() else []
    for path in paths:
        if is_key(path.name) and (path / MANIFEST_FILE).exists():
            try:
                manifest = Manifest.read(path / MANIFEST_FILE)
            except (CacheError, OSError):
                continue  # whatever lies there is no concern of this run
            differing = fingerprint.differences(manifest.fingerprint)
            if not set(differing) & set(names):
                found.append((len(differing), path, manifest))
    return [(path, manifest) for _, path, manifest in sorted(found, key=lambda entry: entry[0])]


def _checked(path: Path, fingerprint: Fingerprint | None) -> tuple[Path, Manifest]:
    manifest = Manifest.read(path / MANIFEST_FILE)
    held = directory_nbytes(path)
    if manifest.whole and manifest.spec.chunks * manifest.spec.views * LEAST_RECORD > held:
        raise CorruptChunkError(
            f"{path / MANIFEST_FILE} speaks of {manifest.spec.chunks * manifest.spec.views:,} records, but the files "
            f"beside it hold {held:,} bytes; drop the cache and build it again"
        )
    difference = "" if fingerprint is None else fingerprint.explain(manifest.fingerprint)
    if difference:
        raise StaleCacheError(f"{difference}: {path} was made from something else")
    return path, manifest


def _nearest(held: list[Path], fingerprint: Fingerprint) -> str:
    """The first difference to the most similar of several caches: what most likely was changed."""
    stored = []
    for path in held:
        try:
            stored.append((path, Manifest.read(path / MANIFEST_FILE).fingerprint))
        except CacheError:
            continue
    if not stored:
        return f"none of the {len(held)} caches in {held[0].parent} can be read"
    path, nearest = min(stored, key=lambda pair: len(fingerprint.differences(pair[1])))
    return f"{fingerprint.explain(nearest)}: {path} was made from something else"
