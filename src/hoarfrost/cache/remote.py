"""Finished caches at a URL, on whatever file system of fsspec it names.

A published cache lies in `<url>/<key>/<id>/`, in the files that it has on disk. Its manifest is written last and read
first, so that half a cache is none. Each build has an id of its own: nobody writes where another has written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, CacheError, HoarfrostError, RemoteCacheError, StaleCacheError
from ..untrusted import parse_json, write_whole
from .files import (
    CACHE_FILES,
    FEATURES_FILE,
    ID_NBYTES,
    JOURNAL_FILE,
    LARGEST_MANIFEST,
    MANIFEST_FILE,
    TARGETS_FILE,
    building_path,
    directory_errors,
    is_id,
    is_key,
    open_data,
)
from .journal import Record
from .locking import CacheLock
from .manifest import Manifest
from .remote_lease import RemoteLease, is_leased
from .removal import remove_tree

__all__ = ["PublishedCache", "RemoteCaches", "published_in"]

WAIT_SECONDS = 30.0
"""For another process of this machine that takes or heals the same cache."""
ABANDONED_SECONDS = 24 * 3600.0
"""Behind its last write half a cache is nobody's any more: a single file may take hours to arrive."""

_PUBLISHED = f"*/*/{MANIFEST_FILE}"


@dataclass(frozen=True)
class PublishedCache:
    """One cache at a URL. `state`: `ready`, `unfinished` (on its way, or left behind), `outdated` or `damaged` (a file
    that is missing counts); `manifest` is None where it cannot be read. `modified` is 0 where the file system does not
    tell."""

    folder: str
    key: str
    id: str
    state: str
    nbytes: int
    modified: float
    manifest: Manifest | None


@dataclass(frozen=True)
class _Finished:
    """A folder with a manifest, its bytes, and those of the files beside it, by name."""

    folder: str
    raw: bytes
    manifest: Manifest
    sizes: Mapping[str, int]

    @property
    def complete(self) -> bool:
        """Whether all files are there, of whatever length."""
        return {FEATURES_FILE, TARGETS_FILE, JOURNAL_FILE} <= set(self.sizes)

    @property
    def long_enough(self) -> bool:
        """Whether they may hold what the manifest says."""
        features = ID_NBYTES + self.manifest.totals.get("feature_bytes", 0)
        form, samples = self.manifest.targets, self.manifest.spec.samples
        targets = ID_NBYTES + (0 if form is None else form.nbytes * samples)
        return self.sizes[FEATURES_FILE] >= features and self.sizes[TARGETS_FILE] >= targets


class RemoteCaches:
    """The caches at a URL. Nothing is asked of it before a method is called.

    Raises:
        ArgumentError: no file system is known for the URL, or a package that it needs is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        _check_known(url)

    def holds(self, key: str) -> bool:
        """Whether there is a finished cache of this key, of which nothing is missing or cut short.

        Raises:
            RemoteCacheError: nobody can tell.
        """
        with self._errors("looking for a cache"):
            return any(found.long_enough for found in self._finished(key))

    def take(self, directory: Path, key: str, build: str | None = None) -> bool:
        """Begin a copy of a finished cache, whole but for its features: their places are there, and hold nothing yet.

        Args:
            build: the id of the one that is wanted, where a key has several; None: any.

        Returns:
            False where there is none.

        Raises:
            RemoteCacheError: it cannot be read.
            CacheBusyError, CacheDirectoryError, BudgetError: it cannot be written.
        """
        with self._errors("looking for a cache"):
            there = [found for found in self._finished(key) if build in (None, found.manifest.id)]
        for number, found in enumerate(sorted(there, key=lambda found: not found.long_enough), 1):
            with directory_errors(directory, "copying a cache"), CacheLock(directory, key, WAIT_SECONDS):
                if (directory / key).exists():
                    break
                try:
                    self._copied(found.folder, found.raw, building_path(directory, key))
                except RemoteCacheError:
                    if number == len(there):
                        raise
                    continue  # removed since it was seen: another build of it may do
                building_path(directory, key).rename(directory / key)
                break
        return bool(there)

    def _copied(self, folder: str, raw: bytes, path: Path) -> None:
        if os.path.lexists(path):
            remove_tree(path)  # a build that was broken off; what is finished is more
        path.mkdir()
        try:
            with self._errors("fetching a cache"):
                for name in (JOURNAL_FILE, TARGETS_FILE):
                    self._files.get_file(f"{folder}/{name}", str(path / name))
                nbytes = int(self._files.size(f"{folder}/{FEATURES_FILE}"))
            fd = open_data(path / FEATURES_FILE, folder.rpartition("/")[2])
            try:
                os.ftruncate(fd, max(nbytes, ID_NBYTES))
            finally:
                os.close(fd)
            write_whole(path / MANIFEST_FILE, raw)
        except BaseException:
            with suppress(OSError, CacheError):
                remove_tree(path)
            raise

    def put(self, path: Path, manifest: Manifest) -> None:
        """Publish what lies at `path`; what was left of the same build is written over.

        Raises:
            RemoteCacheError: it cannot be written. Nothing can be seen then.
        """
        key = f"{self._root}/{manifest.fingerprint.key}"
        folder = f"{key}/{manifest.id}"
        with self._errors("publishing a cache"):
            if self._files.exists(f"{key}/{MANIFEST_FILE}"):
                raise RemoteCacheError(
                    f"{key} is a cache of runs that name this directory by its path, and to them what is published in "
                    "it would be damage: name another URL, or another local_dir"
                )
            for name in (FEATURES_FILE, TARGETS_FILE, JOURNAL_FILE, MANIFEST_FILE):
                self._put(path / name, f"{folder}/{name}")

    def _put(self, path: Path, there: str) -> None:
        try:
            self._files.put_file(str(path), there)
        except FileNotFoundError:
            if not there.startswith("/"):
                raise  # an object store has no folders, and a bucket is not ours to make
            self._files.makedirs(there.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), there)

    def records(self, key: str, wanted: Sequence[Record]) -> list[bytes | None]:
        """The bytes where a cache has these records, not checked; None where there are none.

        Raises:
            RemoteCacheError: the file that holds them is gone, or nobody can be reached.
        """
        with self._errors("fetching features"):
            paths = [f"{self._root}/{key}/{record.cache}/{FEATURES_FILE}" for record in wanted]
            begins, ends = [r.offset for r in wanted], [r.offset + r.nbytes for r in wanted]
            found = self._files.cat_ranges(paths, begins, ends, on_error="return")
            if any(isinstance(data, Exception) for data in found):
                # Of a file that is too short the other records can still be had.
                self._files.invalidate_cache()
                self._files.size(paths[0])
            return [data if isinstance(data, bytes) else None for data in found]

    def caches(self) -> list[PublishedCache]:
        """All caches at the URL, by key and id; other files are not looked at.

        Raises:
            RemoteCacheError: nobody can tell.
        """
        with self._errors("listing"):
            return [
                self._info(folder, key, name)
                for key, path in self._folders(self._root)
                if is_key(key)
                for name, folder in self._folders(path)
                if is_id(name)
            ]

    @property
    def exists(self) -> bool:
        """Whether there is anything at the URL.

        Raises:
            RemoteCacheError: nobody can tell.
        """
        with self._errors("looking for it"):
            return bool(self._files.exists(self._root))

    def lease(self, key: str, build: str) -> RemoteLease:
        """That this process fetches a cache, once it is renewed."""
        return RemoteLease(self._files, f"{self._root}/{key}/{build}")

    def prune(self, keep: Iterable[str] = (), *, abandoned_only: bool = False) -> list[str]:
        """Removes all caches but those whose keys are in `keep` and those that somebody fetches; with `abandoned_only`
        those alone that were never finished, of which nothing was written for a day. What holds files that are not a
        cache's stays.

        Returns:
            The folders that were removed.

        Raises:
            RemoteCacheError: something cannot be removed.
        """
        kept, removed = set(keep), []
        for found in self.caches():
            lasts = found.state != "unfinished" or not 0 < found.modified < time.time() - ABANDONED_SECONDS
            if found.key in kept or (lasts and (abandoned_only or found.state == "unfinished")):
                continue
            with self._errors("removing a cache"):
                if self._own(found) and not is_leased(self._files, found.folder):
                    self._remove(found.folder)
                    removed.append(found.folder)
        return removed

    def _own(self, found: PublishedCache) -> bool:
        """Whether a folder is proved to be a cache: all in it are files of a cache's names, and the manifest says so,
        or the features begin with the id that the folder is named by."""
        entries = self._files.ls(found.folder, detail=True)
        names = {str(entry["name"]).rpartition("/")[2] for entry in entries if entry["type"] == "file"}
        if len(names) != len(entries) or not names <= set(CACHE_FILES):
            return False
        if found.manifest is not None or found.state == "outdated":
            return True
        begin = self._read(f"{found.folder}/{FEATURES_FILE}", ID_NBYTES)
        return begin == bytes.fromhex(found.id)

    def _remove(self, folder: str) -> None:
        """The manifest goes first: what is left of a cache is none."""
        there = [name for name in (MANIFEST_FILE, *CACHE_FILES) if self._files.exists(f"{folder}/{name}")]
        for name in dict.fromkeys(there):
            self._files.rm_file(f"{folder}/{name}")
        with suppress(Exception):  # object stores have no folders
            self._files.rmdir(folder)
            self._files.rmdir(folder.rpartition("/")[0])

    def _info(self, folder: str, key: str, name: str) -> PublishedCache:
        raw = self._read(f"{folder}/{MANIFEST_FILE}")
        state, manifest = "unfinished", None
        if raw is not None:
            try:
                state, manifest = "ready", _manifest(raw, folder)
            except StaleCacheError:
                state = "outdated"
            except CacheError:
                state = "damaged"
        entries = self._files.ls(folder, detail=True)
        if manifest is not None and not _Finished(folder, b"", manifest, _sizes(entries)).complete:
            state = "damaged"
        nbytes = sum(int(entry["size"] or 0) for entry in entries)
        return PublishedCache(folder, key, name, state, nbytes, self._modified(entries), manifest)

    def _modified(self, entries: Sequence[dict[str, Any]]) -> float:
        """When the last of these files was written, in seconds; 0 where that cannot be had of each."""
        try:
            return max(float(self._files.modified(entry["name"]).timestamp()) for entry in entries)
        except Exception:
            return 0.0

    def _finished(self, key: str) -> Iterator[_Finished]:
        """Finished caches of this key, all of whose files are there."""
        for name, folder in self._folders(f"{self._root}/{key}"):
            raw = self._read(f"{folder}/{MANIFEST_FILE}") if is_id(name) else None
            if raw is None:
                continue
            with suppress(CacheError, FileNotFoundError):
                manifest = _manifest(raw, folder)
                found = _Finished(folder, raw, manifest, _sizes(self._files.ls(folder, detail=True)))
                if manifest.whole and manifest.id == name and manifest.fingerprint.key == key and found.complete:
                    yield found

    def _folders(self, path: str) -> list[tuple[str, str]]:
        """Name and path of what lies in a folder, by name; nothing where there is none. It is asked anew each time."""
        self._files.invalidate_cache()
        try:
            inside = [str(inner).rstrip("/") for inner in self._files.ls(path, detail=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((inner.rpartition("/")[2], inner) for inner in inside)

    def _read(self, path: str, most: int = LARGEST_MANIFEST) -> bytes | None:
        """A file's first bytes; None where there is no such file."""
        try:
            return bytes(self._files.cat_file(path, start=0, end=most))
        except (FileNotFoundError, NotADirectoryError):
            return None

    @cached_property
    def _place(self) -> tuple[Any, str]:
        import fsspec

        files, path = fsspec.core.url_to_fs(self.url)
        return files, str(path).rstrip("/")

    @property
    def _files(self) -> Any:
        return self._place[0]

    @property
    def _root(self) -> str:
        return self._place[1]

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Whatever a file system's client raises becomes one error with a name."""
        try:
            yield
        except HoarfrostError:
            raise
        except Exception as error:
            raise RemoteCacheError(f"{doing} failed at {self.url}: {type(error).__name__}: {error}") from error


def published_in(directory: Path) -> bool:
    """Whether a directory is one that some URL names: caches of it are not this directory's own, to be read in place
    and removed, but others' too."""
    with suppress(OSError):
        return any(is_id(path.parent.name) and is_key(path.parent.parent.name) for path in directory.glob(_PUBLISHED))
    return False


def _sizes(entries: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Of a folder's files, by name."""
    return {str(entry["name"]).rpartition("/")[2]: int(entry["size"] or 0) for entry in entries}


def _manifest(raw: bytes, folder: str) -> Manifest:
    try:
        body = parse_json(raw)
    except ValueError:
        body = None
    return Manifest.of(body if isinstance(body, dict) else None, f"{folder}/{MANIFEST_FILE}")


def _check_known(url: str) -> None:
    try:
        import fsspec
    except ImportError as error:
        raise ArgumentError(
            f"{url!r} is a URL, and what reads those is not installed: pip install 'hoarfrost[remote]'"
        ) from error
    for part in url.split("::"):
        try:
            fsspec.get_filesystem_class(part.partition("://")[0])
        except (ImportError, ValueError) as error:
            raise ArgumentError(f"caches cannot be kept at {url!r}: {error}") from error
