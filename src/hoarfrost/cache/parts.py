"""A cache that several processes build together: each writes a part of its own, and one of them puts these together.

A part is an interrupted build of the cache, in a directory of its own. So what a process wrote before it was killed is
taken up by whoever builds next, with however many others.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import CacheBusyError
from .cache import Cache
from .files import directory_errors
from .fingerprint import Fingerprint
from .left_parts import PARTS, remove_part
from .spec import CacheSpec
from .writer import CacheWriter

__all__ = ["begin_part", "take_parts"]


def begin_part(
    directory: Path, fingerprint: Fingerprint, spec: CacheSpec, number: int, budget_bytes: int | None
) -> CacheWriter[Cache]:
    """A part of the cache; `close` leaves it to `take_parts`.

    Raises:
        CacheBusyError, CacheDirectoryError: as `Cache.create`.
    """
    root = directory / PARTS / f"{fingerprint.key}-{number}"
    with directory_errors(root, "making the directory"):
        root.mkdir(parents=True, exist_ok=True)
    return Cache.create(root, fingerprint, spec, budget_bytes=budget_bytes)


def take_parts(writer: CacheWriter[Cache]) -> None:
    """Take over what lies in all parts of a cache, one after the other, and remove them; one that somebody is still
    writing to stays.

    Raises:
        CorruptChunkError, BudgetError, CacheDirectoryError: as `CacheWriter.adopt`.
    """
    for root in sorted((writer.path.parent / PARTS).glob(f"{writer.fingerprint.key}-*")):
        try:
            part = Cache.create(root, writer.fingerprint, writer.spec)
        except CacheBusyError:
            continue
        with part:
            writer.adopt(part)
        remove_part(root)
