"""What a cache was made from, as readable JSON, so that a mismatch can name the field that differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ArgumentError

__all__ = ["Fingerprint", "canonical_json", "told_difference"]


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

    Attributes:
        fields: these; the digest is theirs.
        noted: what was the case beside them, of which whoever opens the cache makes what he will.

    Raises:
        ArgumentError: a name is no string, or a value none of JSON's.
    """

    fields: Mapping[str, Any]
    noted: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = [name for name in self.fields if not isinstance(name, str)]
        if wrong:
            raise ArgumentError(f"a fingerprint's names are strings, not {wrong[0]!r}")
        # A copy through JSON: tuples become lists as they will when read again, and later changes stay
        # outside.
        object.__setattr__(self, "fields", json.loads(canonical_json(dict(self.fields))))
        object.__setattr__(self, "noted", json.loads(canonical_json(dict(self.noted))))

    def noting(self, **noted: Any) -> Fingerprint:
        """The same, with more noted."""
        return Fingerprint(self.fields, {**self.noted, **noted})

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

    def explain(self, stored: Fingerprint, names: Sequence[str] | None = None) -> str:
        """`"weights" is 3f2a... here, but 91bc... in the cache (2 fields differ: weights, cut)`, or an
        empty string. Inside a field that has names of its own the first that differs is told.

        Args:
            names: of the fields that count; None: all that differ.
        """
        names = self.differences(stored) if names is None else names
        if not names:
            return ""
        told = [told_difference(name, self.fields, stored.fields) for name in names]
        count = f" ({len(names)} fields differ: {', '.join(names)})" if len(names) > 1 else ""
        return f"{told[0]}{count}"


def told_difference(name: str, here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """`'codec' (bits) is 4 here, but 8 in the cache`; of several that differ inside, the first and how many."""
    within, more = [], 0
    mine, its = here, there
    key = name
    while isinstance(mine.get(key), dict) and isinstance(its.get(key), dict):
        mine, its = mine[key], its[key]
        differing = [k for k in (*mine, *(k for k in its if k not in mine)) if mine.get(k, its) != its.get(k, mine)]
        if not differing:
            break
        key, more = differing[0], more + len(differing) - 1
        within.append(key)
    path = f" ({'.'.join(within)}{f' and {more} more' if more else ''})" if within else ""
    return f"{name!r}{path} is {_shortened(mine, key)} here, but {_shortened(its, key)} in the cache"


def _spelling(value: Any, missing: object) -> bytes:
    return b"" if value is missing else canonical_json(value)


def _shortened(fields: Mapping[str, Any], name: str, width: int = 40) -> str:
    if name not in fields:
        return "absent"
    text = canonical_json(fields[name]).decode("ascii")
    return text if len(text) <= width else f"{text[: width - 3]}..."
