"""Freeze nothing: plain training, through the same loop."""

from __future__ import annotations

from dataclasses import dataclass

from .state import TrainState

__all__ = ["Never"]


@dataclass(frozen=True)
class Never:
    """The policy of plain training."""

    def __call__(self, state: TrainState, /) -> int:
        return 0
