"""What a cache was made from, as readable JSON, so that a mismatch can name the field that differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError

__all__ = ["Fingerprint", "canonical_json"]


def canonical_json(value: Any) -> bytes:
    """One spelling for equal values: sorted keys, no spaces, ASCII.

    Raises:
        ArgumentError: the value is none of JSON's, or NaN or infinite.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"not a JSON value ({error}): {value!r}") from error


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Fields that must agree for a cache to be used. Two are equal when their JSON is.

        Fingerprint({"weights": hash_tensors(prefix.state_dict()), "cut": "layer2", "codec":
        codec.to_config()})

    Raises:
        ArgumentError: a name is no string, or a value none of JSON's.
    """

    fields: Mapping[str, Any]

    def __post_init__(self) -> None:
        wrong = [name for name in self.fields if not isinstance(name, str)]
        if wrong:
            raise ArgumentError(f"a fingerprint's names are strings, not {wrong[0]!r}")
        # A copy through JSON: tuples become lists as they will when read again, and later changes stay
        # outside.
        object.__setattr__(self, "fields", json.loads(canonical_json(dict(self.fields))))

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON, 64 hexadecimal digits."""
        return hashlib.sha256(canonical_json(self.fields)).hexdigest()

    @property
    def key(self) -> str:
        """The first 16 digits of the digest: the name of the cache's directory."""
        return self.digest[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fingerprint) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def differences(self, other: Fingerprint) -> list[str]:
        """The names of the fields that differ, in this fingerprint's order, then those that only the
        other has.
        """
        names = [*self.fields, *(name for name in other.fields if name not in self.fields)]
        missing = object()
        return [
            name
            for name in names
            if _spelling(self.fields.get(name, missing), missing) != _spelling(other.fields.get(name, missing), missing)
        ]

    def explain(self, stored: Fingerprint) -> str:
        """`"weights" is 3f2a... here, but 91bc... in the cache (2 fields differ: weights, cut)`, or an
        empty string.
        """
        names = self.differences(stored)
        if not names:
            return ""
        first = names[0]
        here, there = (_shortened(f.fields, first) for f in (self, stored))
        count = f" ({len(names)} fields differ: {', '.join(names)})" if len(names) > 1 else ""
        return f"{first!r} is {here} here, but {there} in the cache{count}"


def _spelling(value: Any, missing: object) -> bytes:
    return b"" if value is missing else canonical_json(value)


def _shortened(fields: Mapping[str, Any], name: str, width: int = 40) -> str:
    if name not in fields:
        return "absent"
    text = canonical_json(fields[name]).decode("ascii")
    return text if len(text) <= width else f"{text[: width - 3]}..."
