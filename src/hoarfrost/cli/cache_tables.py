"""What a directory's caches hold, and what is damaged in them, as tables."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cache import Cache, CacheInfo, list_caches
from ..errors import CacheError
from ..report import Table, format_bytes

__all__ = ["caches_table", "damage_table"]


def caches_table(directory: Path) -> Table:
    """The caches in a directory, finished and building.

    Raises:
        CacheDirectoryError: there is no such directory.
    """
    caches = list_caches(directory)
    note = "samples x views" if caches else "no caches here"
    return Table(
        title=f"{directory}: {format_bytes(sum(cache.nbytes for cache in caches))}",
        header=["cache", "state", "cut", "samples", "codec", "stored", "written"],
        rows=[_cache_row(cache) for cache in caches],
        note=note,
    )


def _cache_row(info: CacheInfo) -> list[str]:
    written = time.strftime("%d %b", time.localtime(info.modified))
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


def _codec(config: Mapping[str, Any]) -> str:
    """A codec's name and its numbers; behind them the codecs that it is made of."""
    parts = [str(value) for value in config.values() if isinstance(value, str | int)]
    inner = [_codec(value) for value in config.values() if isinstance(value, Mapping)]
    return " ".join([*parts, f"({', '.join(inner)})"] if inner else parts)


def damage_table(directory: Path) -> Table:
    """Every finished cache of a directory read from end to end: what is damaged in it.

    Raises:
        CacheDirectoryError: there is no such directory.
    """
    rows: list[list[str]] = []
    ready = [info for info in list_caches(directory) if info.state not in ("building", "outdated")]
    for info in ready:
        try:
            found = Cache.open(info.path).verify()
        except CacheError as error:
            rows.append([info.key, "–", "–", str(error)])
        else:
            rows.extend([info.key, str(damage.chunk), str(damage.view), damage.reason] for damage in found)
    checked = f"{len(ready)} cache{'s' * (len(ready) != 1)} checked"
    return Table(
        title=f"{directory}: {f'{len(rows)} damaged' if rows else 'nothing damaged'}",
        header=["cache", "chunk", "view", "damage"],
        rows=rows,
        note=f"{checked}; a run that reads a damaged chunk computes it again" if rows else checked,
    )
