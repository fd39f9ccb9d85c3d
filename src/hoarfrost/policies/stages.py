"""Freezing one stage of the model after the other (Yang et al. 2025, arXiv 2508.15033)."""

from __future__ import annotations

from dataclasses import dataclass

from ..cuts import Cut, stage_ends
from .known_times import check_shares, known_change, known_epochs, require
from .state import TrainState

__all__ = ["Stages"]


@dataclass(frozen=True)
class Stages:
    """Freeze the model's first stage at one point of the training, its second at another.

    The points are those of the authors' public code, whose runs of 160 epochs freeze before epochs 30 and 60, counted
    from 0; the paper itself designates points without publishing them. What is a stage says
    `hoarfrost.cuts.stage_ends`.

    Args:
        first, second: shares of the epochs, each rounded to whole ones, at least one.

    Raises:
        PolicyError: a share is not between 0 and 1.
    """

    first: float = 30 / 160
    second: float = 60 / 160

    def __post_init__(self) -> None:
        check_shares(self, first=self.first, second=self.second)

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        require(self, cuts, epochs)

    def __call__(self, state: TrainState, /) -> int:
        epochs = known_epochs(self, state.epochs)
        begins = (max(1, round(share * epochs)) for share in (self.first, self.second))
        frozen = [end for at, end in zip(begins, stage_ends(state.cuts), strict=False) if state.epoch >= at]
        return max((end.index + 1 for end in frozen), default=0)

    def next_change(self, state: TrainState) -> int | None:
        return known_change(self, state)
