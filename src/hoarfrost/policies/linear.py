"""Freezing a share of the model that grows linearly (Composer's LayerFreezing)."""

from __future__ import annotations

from dataclasses import dataclass

from ..cuts import Cut, candidate_depths
from ..errors import PolicyError
from .known_times import known_change, known_epochs
from .state import TrainState

__all__ = ["Linear"]


@dataclass(frozen=True)
class Linear:
    """Freeze `level * (t - start) / (1 - start)` of the model at the share t of the training.

    From MosaicML Composer, `LayerFreezing`: https://docs.mosaicml.com/projects/composer (method card "Layer Freezing").
    Composer counts leaf modules; here the parts between recommended cuts are counted, and the last of them trains on.

    Args:
        start: share of the training before which nothing freezes; published: 0.5.
        level: share of the model that is frozen at the end; published: 1.0.

    Raises:
        PolicyError: `start` is not in [0, 1), or `level` not in [0, 1].
    """

    start: float = 0.5
    level: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.start < 1 and 0 <= self.level <= 1):
            raise PolicyError(f"{self!r}: start must be in [0, 1) and level in [0, 1]")

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        known_epochs(self, epochs)

    def __call__(self, state: TrainState, /) -> int:
        depths = candidate_depths(state.cuts)
        done = state.epoch / known_epochs(self, state.epochs)
        share = max(0.0, self.level * (done - self.start) / (1 - self.start))
        # The small addend keeps 3 / 10 * 10 from falling to 2.
        return depths[min(int(share * len(depths) + 1e-9), len(depths) - 1)]

    def next_change(self, state: TrainState) -> int | None:
        return known_change(self, state)
