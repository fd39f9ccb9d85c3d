"""Batches mixed as a user's own MixUp or CutMix mixes them."""

from __future__ import annotations

from typing import Any

from ..augment import Mixing
from ..errors import ArgumentError
from ..settings import Freezing

__all__ = ["mixing_of"]


def mixing_of(mix: Any, dataset: Any, freezing: Freezing) -> Mixing | None:
    """A user's MixUp or CutMix for the classes that a data set names.

    Raises:
        ArgumentError: it is neither, or several tensors cross the cuts.
    """
    if mix is None:
        return None
    names = getattr(dataset, "classes", None)
    mixing = Mixing.of(mix, None if names is None else len(names))
    if not freezing.one_tensor:
        raise ArgumentError("mix needs cuts that one tensor crosses: leave max_tensors at 1, and name no cuts")
    return mixing
