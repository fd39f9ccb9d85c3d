"""What a setting may be: whole numbers, words, sizes in bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike, fspath

from ..errors import ArgumentError

__all__ = ["check_bytes", "check_count", "check_directory", "check_word", "is_count", "is_url", "parse_bytes"]


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check_count(name: str, value: object, right: str) -> None:
    if not is_count(value):
        raise ArgumentError(f"{name} must be {right}, not {value!r}")


def check_word(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise ArgumentError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")


def check_bytes(name: str, value: int | None) -> None:
    if value is not None and value < 0:
        raise ArgumentError(f"{name} is a number of bytes, at least 0, not {value!r}")


def check_directory(name: str, value: str | PathLike[str]) -> None:
    """A URL that has passed through a `Path` has lost a slash, and would be a directory `s3:` here."""
    lost = re.match(r"([A-Za-z][\w.+-]+):/(?!/)(.*)", fspath(value))
    if lost is not None:
        raise ArgumentError(
            f"{name}={fspath(value)!r} is a URL without one of its slashes, as a Path leaves it: "
            f"give the text {lost[1] + '://' + lost[2]!r}"
        )


def is_url(text: object) -> bool:
    """Whether it names a place as fsspec does, `s3://bucket/caches`, and no path that merely holds a colon."""
    return isinstance(text, str) and re.match(r"[A-Za-z][\w.+-]*(::[A-Za-z][\w.+-]*)*://", text) is not None


def parse_bytes(text: str) -> int:
    """`2GB`, `500 MiB`, `1000000` -> bytes.

    Raises:
        ArgumentError: no size.
    """
    units = {"": 1, "B": 1} | {f"{p}B": 1000**n for n, p in enumerate("KMGT", 1)}
    units |= {f"{p}IB": 1024**n for n, p in enumerate("KMGT", 1)}
    match = re.fullmatch(r"([0-9.]+)\s*([A-Z]*)", text.strip().upper())
    if match is None or match[2] not in units or match[1].count(".") > 1 or match[1] == ".":
        raise ArgumentError(f"{text!r} is no size; write 500MB, 2GiB or a number of bytes")
    return int(float(match[1]) * units[match[2]])
