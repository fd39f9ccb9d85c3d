"""A batch of items, made by the user's collate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import default_collate

from ..errors import DatasetError

__all__ = ["Collate", "collated", "collated_targets", "name_of"]

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
    """For messages; of one that transformers' Trainer has wrapped, the user's own."""
    collate = getattr(collate, "data_collator", collate)
    return str(getattr(collate, "__name__", type(collate).__name__))


def collated_targets(targets: Sequence[Any]) -> Tensor:
    """[n, ...], as torch's collate makes them.

    Raises:
        DatasetError: they are no numbers, or no tensors of one shape.
    """
    try:
        made = default_collate(list(targets))
    except (TypeError, RuntimeError) as error:
        raise DatasetError(f"targets must be numbers or tensors of one shape: {error}") from error
    if not isinstance(made, Tensor):
        raise DatasetError(
            f"targets must be numbers or tensors of one shape, not {type(targets[0]).__name__}: "
            "features and targets are stored together"
        )
    return made
