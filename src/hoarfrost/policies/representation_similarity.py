"""Freezing from the front while representations have stopped moving: what CKA and SVCCA have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..cuts import Cut, candidate_depths
from ..errors import PolicyError
from .policy import is_due
from .state import TrainState

__all__ = ["RepresentationSimilarity"]


@dataclass
class RepresentationSimilarity:
    """Freeze the segments at whose cuts the features are as alike as `threshold` to what they were `every` epochs ago.

    Args:
        threshold: similarity, from 0 to 1, from which on a representation counts as settled.
        every: epochs between two snapshots.
        after: epochs before the first snapshot.
        every_steps: steps of the training between two snapshots, in place of `every`.

    Raises:
        PolicyError: an argument is out of range.
    """

    threshold: float
    every: int = 1
    after: int = 0
    every_steps: int | None = None
    _earlier: tuple[Tensor, ...] = field(default=(), init=False, repr=False, compare=False)
    _frozen: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1 or self.every < 1 or self.after < 0:
            raise PolicyError(f"{self!r}: threshold is from 0 to 1, every at least 1, after at least 0")

    def summary(self, cut: Cut, features: Tensor) -> Tensor:
        """What is kept of features [N, ...] to compare them later."""
        raise NotImplementedError

    def similarity(self, earlier: Tensor, now: Tensor) -> float:
        """Of two summaries, from 0 to 1."""
        raise NotImplementedError

    def __call__(self, state: TrainState, /) -> int:
        depths = candidate_depths(state.cuts)
        whole = self.every_steps is not None or (state.epoch - self.after) % self.every == 0
        if state.epoch >= self.after and whole and is_due(self, state) and self._frozen < len(depths) - 1:
            now = state.activations(self.summary)
            if self._earlier:
                while self._frozen < len(now) and (
                    self.similarity(self._earlier[self._frozen], now[self._frozen]) >= self.threshold
                ):
                    self._frozen += 1
            self._earlier = now
        return depths[self._frozen]

    def state_dict(self) -> dict[str, Any]:
        return {"earlier": list(self._earlier), "frozen": self._frozen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._earlier, self._frozen = tuple(state["earlier"]), int(state["frozen"])
