"""A policy around another one: what Annealed and Boosted have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..cuts import Cut
from .known_times import known_epochs
from .policy import Policy, announced_change, prepared
from .schedule import Schedule
from .state import TrainState

__all__ = ["PolicyWrapper"]


@dataclass
class PolicyWrapper:
    """Freezes as another policy does; what is added to it needs the number of epochs.

    Args:
        policy: the other one; None: `Schedule()`.
    """

    policy: Policy | None = None

    def __post_init__(self) -> None:
        self.policy = Schedule() if self.policy is None else self.policy

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        known_epochs(self, epochs)
        prepared(self._inner, cuts, epochs)

    def __call__(self, state: TrainState, /) -> int:
        depth: int = self._inner(state)
        return depth

    def next_change(self, state: TrainState) -> int | None:
        return announced_change(self._inner, state)

    @property
    def _inner(self) -> Any:
        return self.policy
