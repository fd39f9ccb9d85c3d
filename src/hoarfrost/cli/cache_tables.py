"""What a directory's caches hold, and what is damaged in them, as tables."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..cache import Cache, CacheInfo, Damage, PublishedCache, RemoteCaches, list_caches
from ..errors import CacheError, CorruptChunkError, RemoteCacheError
from ..report import Table, format_bytes
from ..settings import is_url

__all__ = ["caches_in", "caches_table", "damage_table", "place_of"]


def place_of(directory: str | Path) -> Path | RemoteCaches:
    """A directory, or the caches at a URL."""
    return RemoteCaches(directory) if isinstance(directory, str) and is_url(directory) else Path(directory)


def caches_in(place: Path | RemoteCaches) -> Sequence[CacheInfo | PublishedCache]:
    """All that are there, finished or not.

    Raises:
        CacheDirectoryError, RemoteCacheError: there is no such directory, or the URL cannot be reached.
    """
    if isinstance(place, Path):
        return list_caches(place)
    if not place.exists:
        raise RemoteCacheError(f"there is nothing at {place.url}")
    return place.caches()


def caches_table(directory: str | Path) -> Table:
    """The caches in a directory or at a URL, finished and building.

    Raises:
        CacheDirectoryError, RemoteCacheError: as `caches_in`.
    """
    caches = caches_in(place_of(directory))
    note = "samples x views" if caches else "no caches here"
    return Table(
        title=f"{directory}: {format_bytes(sum(cache.nbytes for cache in caches))}",
        header=["cache", "state", "cut", "samples", "codec", "stored", "written"],
        rows=[_cache_row(cache) for cache in caches],
        note=note,
    )


def _cache_row(info: CacheInfo | PublishedCache) -> list[str]:
    written = time.strftime("%d %b", time.localtime(info.modified)) if info.modified else "–"
    stored = format_bytes(info.nbytes)
    if info.manifest is None:
        return [info.key, info.state, "–", "–", "–", stored, written]
    spec = info.manifest.spec
    cut = info.manifest.fingerprint.fields.get("cut", "–")
    return [
        info.key,
        info.state,
        str(cut),
        f"{spec.samples:,} x {spec.views}",
        _codec(spec.codec.to_config()),
        stored,
        written,
    ]


def _damages(info: CacheInfo | PublishedCache, place: Path | RemoteCaches) -> list[Damage]:
    """What cannot be read of a cache; one at a URL is fetched for that."""
    if isinstance(place, Path):
        return Cache.open(place / info.key).verify()
    folder = info.folder if isinstance(info, PublishedCache) else str(info.path)
    with TemporaryDirectory() as copied:
        if not place.take(Path(copied), info.key, folder.rpartition("/")[2]):
            raise CorruptChunkError(
                f"the manifest in {folder} is damaged, or a file is missing; no run reads this cache"
            )
        cache = Cache.open(Path(copied) / info.key)
        cache.fetch_from(place)
        try:
            # The copy is gone once this is read.
            return [replace(it, reason=it.reason.replace(str(cache.path), folder)) for it in cache.verify()]
        finally:
            cache.release()


def _codec(config: Mapping[str, Any]) -> str:
    """A codec's name and its numbers; behind them the codecs that it is made of."""
    parts = [str(value) for value in config.values() if isinstance(value, str | int)]
    inner = [_codec(value) for value in config.values() if isinstance(value, Mapping)]
    return " ".join([*parts, f"({', '.join(inner)})"] if inner else parts)


def damage_table(directory: str | Path) -> Table:
    """Every finished cache of a directory, or at a URL, read from end to end: what is damaged in it.

    Raises:
        CacheDirectoryError, RemoteCacheError: as `caches_in`.
    """
    rows: list[list[str]] = []
    place = place_of(directory)
    ready = [info for info in caches_in(place) if info.state not in ("building", "unfinished", "outdated")]
    for info in ready:
        try:
            found = _damages(info, place)
        except CacheError as error:
            rows.append([info.key, "–", "–", str(error)])
        else:
            rows.extend([info.key, str(damage.chunk), str(damage.view), damage.reason] for damage in found)
    checked = f"{len(ready)} cache{'s' * (len(ready) != 1)} checked"
    whole = "nothing damaged" if ready else "no finished caches"
    return Table(
        title=f"{directory}: {f'{len(rows)} damaged' if rows else whole}",
        header=["cache", "chunk", "view", "damage"],
        rows=rows,
        note=f"{checked}; a run that reads a damaged chunk computes it again" if rows else checked,
    )
