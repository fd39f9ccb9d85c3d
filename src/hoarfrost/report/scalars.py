"""The numbers of a record, as trackers of experiments take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["scalars_of"]

PLACES = ("epoch", "step")
"""When something was: the axes of a tracker, no values."""


def scalars_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Each number of a record under `event/name`; {"freeze/read_seconds": 1.5, "freeze/depth": 3, ...} say."""
    return {
        f"{record['event']}/{name}": value
        for name, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in PLACES
    }
