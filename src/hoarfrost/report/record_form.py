"""What a record's fields may be: what was written down somewhere else is looked at before anything is drawn of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["check_record"]

LARGEST = 1e18
MOST_CHANNELS, MOST_RUNGS, MOST_CUTS = 1 << 16, 1 << 10, 1 << 14
PLACED = {"epoch", "freeze", "decision", "midway", "thaw", "changed", "stale"}
"""Events that belong to an epoch."""
STEPPED = PLACED - {"epoch", "freeze"}


def check_record(record: Any) -> None:
    """Raise ValueError, with the reason, for what is no record of a run."""
    if not isinstance(record, dict) or not isinstance(record.get("event"), str):
        raise ValueError("is not a record with an 'event'")
    needed = {"epoch": record["event"] in PLACED, "step": record["event"] in STEPPED}
    for name, wanted in needed.items():
        if wanted and name not in record:
            raise ValueError(f"is a record of the event {record['event']!r} without {name!r}")
    for name, (fits, right) in FORMS.items():
        if record.get(name) is not None and not fits(record[name]):
            raise ValueError(f"is no record: {name!r} must be {right}, not {str(record[name])[:60]!r}")
        if needed.get(name) and record[name] is None:
            raise ValueError(f"is no record: {name!r} must be {right}, not None")
    _check_plain(record)


def _count(most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and 0 <= value <= most


def _list(most: int, of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(of, value))


def _number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epoch": (_count(10**7), "a whole number from 0 on"),
    "step": (_count(10**12), "a whole number from 0 on"),
    "depth": (_count(MOST_CUTS), f"a whole number up to {MOST_CUTS:,}"),
    "cuts": (_list(MOST_CUTS, lambda cut: isinstance(cut, str)), "a list of names"),
    "sensitivity": (_list(MOST_CHANNELS, _number), f"a list of at most {MOST_CHANNELS:,} numbers"),
    "rungs": (_list(MOST_RUNGS, lambda rung: isinstance(rung, dict)), f"a list of at most {MOST_RUNGS:,} mappings"),
}


def _check_plain(value: Any) -> None:
    """Numbers that can be drawn, and text that can be written; how deep it lies was seen to before."""
    if isinstance(value, dict):
        for inner in (*value, *value.values()):
            _check_plain(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner)
    elif isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError("is no record: it holds half of a character")
    elif isinstance(value, int | float) and LARGEST < abs(value) < float("inf"):
        raise ValueError(f"is no record: it holds a number beyond {LARGEST:g}")
