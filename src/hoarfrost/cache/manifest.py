"""The manifest: the readable page that a cache begins with, and that a build carries until it is
committed.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

from ..errors import ArgumentError, CacheError, CorruptChunkError, HoarfrostError, StaleCacheError
from .encoding import TargetForm
from .files import ID_NBYTES, is_id, read_json, write_json
from .fingerprint import Fingerprint, canonical_json
from .removal import FORMAT
from .spec import CacheSpec

__all__ = ["VERSION", "Manifest", "new_id"]

VERSION = 4


@dataclass(frozen=True)
class Manifest:
    """What is said of a cache as a whole; `targets` is None until the first record was written.

    `id` is drawn when the cache is begun; what its other files begin with, so that those of another are told.
    """

    id: str
    fingerprint: Fingerprint
    spec: CacheSpec
    targets: TargetForm | None
    totals: dict[str, int]
    unreadable: dict[int, str] = field(default_factory=dict)
    """Samples whose rows are another's, since they could not be read: why, by number."""

    @property
    def whole(self) -> bool:
        """Whether every record was there when the cache was committed; if not, they are added as epochs show them."""
        return self.totals.get("records") == self.spec.chunks * self.spec.views

    def write(self, path: Path) -> None:
        """Writes it whole or not at all, with the sha256 of its own canonical JSON."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "id": self.id,
            "fingerprint": dict(self.fingerprint.fields),
            "digest": self.fingerprint.digest,
            "noted": dict(self.fingerprint.noted),
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
        return cls.of(read_json(path), str(path))

    @classmethod
    def of(cls, body: dict[str, Any] | None, path: str) -> Manifest:
        """What a manifest's JSON says; None: there was none.

        Args:
            path: where it was read, for errors, which are those of `read`.
        """
        if body is None or body.get("format") != FORMAT:
            raise CorruptChunkError(f"{path} is damaged or no manifest of a cache; drop the cache and build it again")
        version = body.get("version")
        try:
            claimed = body.pop("sha256", None)
            if claimed != hashlib.sha256(canonical_json(body)).hexdigest():
                raise CorruptChunkError(f"{path} does not match its own sha256; drop the cache and build it again")
            if version != VERSION:
                raise StaleCacheError(f"'version' of the format is {VERSION} here, but {shorten(version)} in {path}")
            return cls(
                _id(body["id"]),
                _fingerprint(body["fingerprint"], body["digest"], body.get("noted", {})),
                CacheSpec.from_config(body["spec"]),
                None if body["targets"] is None else TargetForm.from_config(body["targets"]),
                _totals(body["totals"]),
                {int(number): str(why) for number, why in body.get("unreadable", {}).items()},
            )
        except CacheError:
            raise
        except (HoarfrostError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise CorruptChunkError(f"{path} is no manifest that this version can read: {str(error)[:400]}") from error


def new_id() -> str:
    """Of a cache that is begun."""
    return secrets.token_hex(ID_NBYTES)


def _id(told: Any) -> str:
    if not isinstance(told, str) or not is_id(told):
        raise ArgumentError(f"{told!r} is no cache's id")
    return told


def _fingerprint(told: Any, digest: Any, noted: Any) -> Fingerprint:
    for fields in (told, noted):
        if not isinstance(fields, dict):
            raise ArgumentError(f"a fingerprint has named fields, not {type(fields).__name__}")
    found = Fingerprint(told, noted)
    if found.digest != digest:
        raise ArgumentError("the digest is not that of the fingerprint")
    return found


def _totals(told: Any) -> dict[str, int]:
    if not isinstance(told, dict) or not all(type(count) is int and count >= 0 for count in told.values()):
        raise ArgumentError("totals are counts")
    return told
