"""Freezing once, for good or until a last phase (the schemes that SpFDE compares)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..cuts import Cut
from ..errors import PolicyError
from .known_times import check_shares, known_change, known_epochs, require
from .schedule import depth_at_share
from .state import TrainState

__all__ = ["SingleShot", "SingleShotThenResume"]


@dataclass(frozen=True)
class SingleShot:
    """Freeze a share of the model once.

    From Yuan et al. 2022, SpFDE (arXiv 2209.11204), section on freezing schemes. The paper chooses time and layers by
    a target of saved FLOPs; `at` and `share` are our own choice of these.

    Args:
        at: share of the training after which it freezes.
        share: of the forward FLOPs that should then lie in front of the cut; the nearest recommended cut is taken.
    """

    at: float = 0.5
    share: float = 2 / 3

    def __post_init__(self) -> None:
        check_shares(self, at=self.at, share=self.share)

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        require(self, cuts, epochs)

    def __call__(self, state: TrainState, /) -> int:
        begins = round(self.at * known_epochs(self, state.epochs))
        return depth_at_share(state.cuts, self.share) if state.epoch >= begins else 0

    def next_change(self, state: TrainState) -> int | None:
        return known_change(self, state)


@dataclass
class SingleShotThenResume:
    """Freeze a share of the model once; at the end everything trains again, at a small rate.

    From Yuan et al. 2022, SpFDE (arXiv 2209.11204), section on freezing schemes. Times, share and rate are our own.

    Args:
        at, share: as for `SingleShot`.
        resume: share of the training after which everything trains again, for one epoch at least.
        slowed: factor of the loop's learning rate from then on.

    Raises:
        PolicyError: a share is not between 0 and 1, or `resume` lies before `at`.
    """

    at: float = 0.5
    share: float = 2 / 3
    resume: float = 0.9
    slowed: float = 0.1
    thaws: ClassVar[bool] = True
    _slow_from: float = field(default=1.0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_shares(self, at=self.at, share=self.share, resume=self.resume, slowed=self.slowed)
        if self.resume < self.at:
            raise PolicyError(f"{self!r}: resume ({self.resume}) lies before at ({self.at})")

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        require(self, cuts, epochs)
        epochs = known_epochs(self, epochs)
        self._slow_from = self._resumes(epochs) / epochs

    def __call__(self, state: TrainState, /) -> int:
        epochs = known_epochs(self, state.epochs)
        if state.epoch >= self._resumes(epochs):
            return 0
        return SingleShot(self.at, self.share)(state)

    def rate(self, segment: int, segments: int, done: float, lr: float, began: float) -> float:
        """The loop's own rate, slowed in the last phase."""
        return lr * self.slowed if done >= self._slow_from - 1e-9 else lr

    def _resumes(self, epochs: int) -> int:
        """The epoch before which it thaws; the last one where the share is less than an epoch."""
        return min(round(self.resume * epochs), epochs - 1)

    def next_change(self, state: TrainState) -> int | None:
        return known_change(self, state)
