"""The manifest: the readable page that a cache begins with, and that a build carries until it is
committed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CacheError, CorruptChunkError, HoarfrostError, StaleCacheError
from .encoding import TargetForm
from .files import read_json, write_json
from .fingerprint import Fingerprint, canonical_json
from .spec import CacheSpec

__all__ = ["FORMAT", "VERSION", "Manifest"]

FORMAT = "hoarfrost cache"
VERSION = 2


@dataclass(frozen=True)
class Manifest:
    """What is said of a cache as a whole; `targets` is None until the first record was written."""

    fingerprint: Fingerprint
    spec: CacheSpec
    targets: TargetForm | None
    totals: dict[str, int]
    unreadable: dict[int, str] = field(default_factory=dict)
    """Samples whose rows are another's, since they could not be read: why, by number."""

    @property
    def whole(self) -> bool:
        """Whether every record was there when the cache was committed; if not, they are added as epochs show them."""
        return self.totals.get("records") == len(self.spec.records)

    def write(self, path: Path) -> None:
        """Writes it whole or not at all, with the sha256 of its own canonical JSON."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": dict(self.fingerprint.fields),
            "digest": self.fingerprint.digest,
            "spec": self.spec.to_config(),
            "targets": None if self.targets is None else self.targets.to_config(),
            "totals": self.totals,
        }
        if self.unreadable:
            body["unreadable"] = {str(number): why for number, why in self.unreadable.items()}
        write_json(path, {**body, "sha256": hashlib.sha256(canonical_json(body)).hexdigest()})

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """The inverse of `write`.

        Raises:
            StaleCacheError: another version of the format.
            CorruptChunkError: the file is damaged.
        """
        body = read_json(path)
        if body is None or body.get("format") != FORMAT:
            raise CorruptChunkError(f"{path} is damaged or no manifest of a cache; drop the cache and build it again")
        claimed = body.pop("sha256", None)
        if claimed != hashlib.sha256(canonical_json(body)).hexdigest():
            raise CorruptChunkError(f"{path} does not match its own sha256; drop the cache and build it again")
        if body.get("version") != VERSION:
            raise StaleCacheError(f"'version' of the format is {VERSION} here, but {body.get('version')!r} in {path}")
        try:
            return cls(
                Fingerprint(body["fingerprint"]),
                CacheSpec.from_config(body["spec"]),
                None if body["targets"] is None else TargetForm.from_config(body["targets"]),
                body["totals"],
                {int(number): str(why) for number, why in body.get("unreadable", {}).items()},
            )
        except CacheError:
            raise
        except (HoarfrostError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise CorruptChunkError(f"{path} is no manifest that this version can read: {error}") from error
