"""Freezing a fixed share of what still trains, again and again (PipeTransformer)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..cuts import candidate_depths
from ..errors import PolicyError
from .known_times import known_change
from .state import TrainState

__all__ = ["Geometric"]


@dataclass(frozen=True)
class Geometric:
    """After e epochs `ceil(L * (1 - (1 - alpha) ** e))` of L layers are frozen.

    From He et al. 2021, PipeTransformer (arXiv 2102.03161), section 3.1. Layers are transformer blocks there; here they
    are the parts between recommended cuts, and the last of them trains on. The published rule freezes from the first
    epoch on: fit for fine-tuning, early for training from scratch, which `after` allows for.

    Args:
        alpha: share of the active layers that freezes in each epoch; published: 1/3 in the main runs.
        after: epochs before the rule begins; published: 0.

    Raises:
        PolicyError: `alpha` is not in (0, 1), or `after` is negative.
    """

    alpha: float = 1 / 3
    after: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and self.after >= 0):
            raise PolicyError(f"{self!r}: alpha must be between 0 and 1, and after at least 0")

    def __call__(self, state: TrainState, /) -> int:
        depths = candidate_depths(state.cuts)
        ended = max(0, state.epoch - self.after)
        frozen = math.ceil(len(depths) * (1 - (1 - self.alpha) ** ended) - 1e-9)
        return depths[min(frozen, len(depths) - 1)]

    def next_change(self, state: TrainState) -> int | None:
        return known_change(self, state)
