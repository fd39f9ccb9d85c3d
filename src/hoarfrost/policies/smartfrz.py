"""Freezing what a trained predictor takes for settled (SmartFRZ)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..cuts import Cut, candidate_depths
from ..errors import PolicyError
from .known_times import known_epochs
from .policy import is_due
from .predictor import HISTORY, trained_predictor
from .state import TrainState

__all__ = ["SmartFRZ"]

WEIGHTS = 1024
"""Of a segment, so many weights are followed; published."""

LEAST = 5
"""Snapshots that a judgement needs."""


@dataclass
class SmartFRZ:
    """Freeze the foremost segment when a small attention network, trained on other trainings, says that it has settled.

    From Li et al. 2024 (ICLR, arXiv 2401.16720): a fixed-size sample of a layer's weights (about 1,024), 30 snapshots,
    the last of them the query, the others keys and values, two logits; trained on labels from the CKA between a layer's
    features and those of the finished model. Reconstructed, for no code is public: the network takes what does not
    depend on the weights' order (`predictor.tokens`), so that it can be asked about any architecture; snapshots are
    taken at the ends of epochs, or every `every_steps`; five of them suffice. The predictor that comes with Hoarfrost
    is made by benchmarks/smartfrz.py.

    Args:
        threshold: probability from which on a segment counts as settled.
        every_steps: steps of the training between two snapshots; None: an epoch.

    Raises:
        PolicyError: the threshold is not between 0 and 1.
    """

    threshold: float = 0.5
    every_steps: int | None = None
    _histories: list[Tensor] = field(default_factory=list, init=False, repr=False, compare=False)
    _frozen: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise PolicyError(f"{self!r}: threshold is between 0 and 1")

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        known_epochs(self, epochs)

    def __call__(self, state: TrainState, /) -> int:
        depths = candidate_depths(state.cuts)
        if is_due(self, state) and self._frozen < len(depths) - 1:
            self._remember(state)
            interval = (self.every_steps or state.steps) / (known_epochs(self, state.epochs) * state.steps)
            while self._frozen < len(depths) - 1 and self._settled(interval):
                self._frozen += 1
        return depths[self._frozen]

    def _remember(self, state: TrainState) -> None:
        now = [state.weights(number, WEIGHTS)[None] for number in range(len(state.segments))]
        before = self._histories or [weights[:0] for weights in now]
        self._histories = [torch.cat(pair)[-HISTORY:] for pair in zip(before, now, strict=True)]

    def _settled(self, interval: float) -> bool:
        history = self._histories[self._frozen]
        if history.shape[1] == 0:
            return True  # nothing in it trains
        return len(history) >= LEAST and trained_predictor().settled(history, interval) > self.threshold

    def state_dict(self) -> dict[str, Any]:
        return {"histories": list(self._histories), "frozen": self._frozen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._histories, self._frozen = list(state["histories"]), int(state["frozen"])
