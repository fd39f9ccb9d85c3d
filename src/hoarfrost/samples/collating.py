"""A batch of items, made by the user's collate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import DatasetError

__all__ = ["Collate", "collated", "name_of"]

Collate = Callable[[list[Any]], Any]


def collated(collate: Collate, items: list[Any]) -> Any:
    """A batch of items.

    Raises:
        DatasetError: the user's or torch's collate does not take them.
    """
    try:
        return collate(items)
    except (TypeError, RuntimeError, ValueError, LookupError, AttributeError) as error:
        raise DatasetError(f"{name_of(collate)} makes no batch of these items: {error}") from error


def name_of(collate: Collate) -> str:
    """For messages."""
    return str(getattr(collate, "__name__", type(collate).__name__))
