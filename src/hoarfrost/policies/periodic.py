"""Freezing and thawing in turn (one of the schemes that SpFDE compares)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..cuts import Cut
from ..errors import PolicyError
from .known_times import check_shares, known_change, known_epochs, require
from .schedule import depth_at_share
from .state import TrainState

__all__ = ["Periodic"]


@dataclass(frozen=True)
class Periodic:
    """In each period, first everything trains, then a share of the model is frozen.

    From Yuan et al. 2022, SpFDE (arXiv 2209.11204), section on freezing schemes. Number of periods and shares are our
    own choice. Every thaw drops the cache, so long periods suit stored features best.

    Args:
        periods: how many, of equal length in epochs (as nearly as whole epochs allow).
        frozen: share of each period, at its end, with the front frozen.
        share: of the forward FLOPs in front of the cut.

    Raises:
        PolicyError: no period, or a share that is not between 0 and 1.
    """

    periods: int = 3
    frozen: float = 0.5
    share: float = 1 / 3
    thaws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_shares(self, frozen=self.frozen, share=self.share)
        if isinstance(self.periods, bool) or not isinstance(self.periods, int) or self.periods < 1:
            raise PolicyError(f"{self!r}: periods is a whole number of at least 1")

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        require(self, cuts, epochs)

    def __call__(self, state: TrainState, /) -> int:
        place = state.epoch * self.periods / known_epochs(self, state.epochs) % 1
        return depth_at_share(state.cuts, self.share) if place >= 1 - self.frozen - 1e-9 else 0

    def next_change(self, state: TrainState) -> int | None:
        return known_change(self, state)
