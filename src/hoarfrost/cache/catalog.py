"""What a directory of caches holds, and removing what is no longer wanted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import CacheBusyError, CacheError, StaleCacheError
from .files import (
    BUILDING_FILE,
    MANIFEST_FILE,
    directory_errors,
    directory_nbytes,
    discard_path,
    fsync_directory,
    is_key,
)
from .fingerprint import Fingerprint
from .lease import readers
from .left_parts import prune_parts
from .locking import CacheLock
from .manifest import Manifest
from .removal import remove_tree, unlike_cache

__all__ = ["CacheInfo", "drop_cache", "list_caches", "prune"]


@dataclass(frozen=True)
class CacheInfo:
    """One cache in a directory. `state`: `ready`, `building` (interrupted or under way), `outdated` (of another version
    of the format) or `damaged` (its manifest cannot be read); of these two `manifest` is None."""

    path: Path
    key: str
    state: str
    nbytes: int
    modified: float
    manifest: Manifest | None

    @property
    def finished(self) -> bool:
        """Whether it was committed, in whatever state it is now."""
        return self.path.name == self.key


def list_caches(directory: str | os.PathLike[str]) -> list[CacheInfo]:
    """The caches in a directory, committed and building, by path; other files are not looked at.

    Raises:
        CacheDirectoryError: there is no such directory.
    """
    root = Path(directory)
    with directory_errors(root, "listing"):
        found = [_info(path) for path in sorted(root.iterdir()) if path.is_dir() and not path.is_symlink()]
    return [info for info in found if info is not None]


def drop_cache(path: Path) -> None:
    """See `Cache.drop`."""
    root, key = path.parent, path.name
    with directory_errors(path, "dropping"):
        if not path.exists():
            return
        with CacheLock(root, key):
            _check_unread(path)
            aside = discard_path(root, key)
            if aside.exists():
                remove_tree(aside)
            path.rename(aside)
            try:
                # Who has begun to read meanwhile took the lease first, and looks for the cache only now.
                _check_unread(path)
            except CacheBusyError:
                aside.rename(path)
                raise
            fsync_directory(root)
            remove_tree(aside)


def _check_unread(path: Path) -> None:
    reading = readers(path.parent, path.name)
    if reading:
        raise CacheBusyError(f"{' and '.join(reading)} still read the cache {path.name} in {path.parent}; it stays")


def prune(
    directory: str | os.PathLike[str], keep: Iterable[Fingerprint | str] = (), *, abandoned_only: bool = False
) -> list[Path]:
    """Removes all caches and interrupted builds, parts of several processes among them, but those in `keep`
    (fingerprints, digests or keys) and those that someone is reading or writing; the paths that were removed. With
    `abandoned_only`, finished caches stay, damaged ones too.

    Raises:
        CacheDirectoryError: there is no such directory, or something cannot be removed.
    """
    root = Path(directory)
    kept = {k.key if isinstance(k, Fingerprint) else k[:16] for k in keep}
    removed = []
    for info in list_caches(root):
        if info.key in kept or (abandoned_only and info.finished):
            continue
        if unlike_cache(info.path) is not None:
            continue
        with suppress(CacheBusyError):
            if info.finished:
                drop_cache(info.path)
            else:
                with CacheLock(root, info.key), directory_errors(info.path, "removing"):
                    remove_tree(info.path)
            removed.append(info.path)
    with directory_errors(root, "removing leftovers"):
        for path in root.glob("discard-*"):
            if is_key(path.name.removeprefix("discard-")) and unlike_cache(path) is None:
                remove_tree(path)
                removed.append(path)
    return [*removed, *prune_parts(root, kept.__contains__)]


def _info(path: Path) -> CacheInfo | None:
    key = path.name.removeprefix("building-")
    name = MANIFEST_FILE if key == path.name else BUILDING_FILE
    if not is_key(key) or not os.path.lexists(path / name):
        return None
    state = "ready" if name == MANIFEST_FILE else "building"
    manifest = None
    try:
        manifest = Manifest.read(path / name)
    except StaleCacheError:
        state = "outdated"
    except (CacheError, OSError):
        state = "damaged"
    return CacheInfo(path, key, state, directory_nbytes(path), (path / name).lstat().st_mtime, manifest)
