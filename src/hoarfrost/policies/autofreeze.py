"""Freezing the layers whose gradients change least (AutoFreeze)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..cuts import Cut, candidate_depths
from ..errors import PolicyError
from .known_times import known_epochs
from .policy import is_due
from .state import TrainState

__all__ = ["AutoFreeze", "first_active"]


@dataclass
class AutoFreeze:
    """Freeze up to the first layer whose gradient still changes as much as the layers' median.

    Gradients are summed over an interval. Of each layer still active, `eta = |G_before - G| / G_before`, G the L1 norm
    of that sum; the first with eta at or above the percentile of all is where training starts from then on. The first
    interval is skipped, the second is the baseline. From Liu et al. 2021 (arXiv 2102.01386), section 4, and
    https://github.com/YuhanLiu11/AutoFreeze. Layers are transformer blocks there; here they are the parts between
    recommended cuts, and intervals end with epochs (published: a tenth of the steps; here never less than an epoch,
    unless `every_steps` says so).

    Args:
        intervals: in the whole training; published: 10.
        percentile: published: 50.
        every_steps: steps in an interval, in place of `intervals`.

    Raises:
        PolicyError: `intervals` is below 1, or `percentile` not between 0 and 100.
    """

    intervals: int = 10
    percentile: float = 50.0
    every_steps: int | None = None
    _seen: int = field(default=0, init=False, repr=False, compare=False)
    _before: tuple[float, ...] = field(default=(), init=False, repr=False, compare=False)
    _frozen: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.intervals < 1 or not 0 <= self.percentile <= 100:
            raise PolicyError(f"{self!r}: intervals is at least 1 and percentile between 0 and 100")

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        known_epochs(self, epochs)

    def gradient_epochs(self, epochs: int | None) -> int:
        """Epochs in an interval."""
        return max(1, round(known_epochs(self, epochs) / self.intervals))

    def __call__(self, state: TrainState, /) -> int:
        depths = candidate_depths(state.cuts)
        whole = self.every_steps is not None or state.epoch % self.gradient_epochs(state.epochs) == 0
        if (state.epoch or state.within) and whole and is_due(self, state) and len(depths) > 1:
            self._seen += 1
            norms = state.gradient_norms
            if self._seen > 2:
                self._frozen = min(first_active(self._before, norms, self._frozen, self.percentile), len(depths) - 1)
            self._before = norms
        return depths[self._frozen]

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self._seen, "before": list(self._before), "frozen": self._frozen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._seen, self._before, self._frozen = state["seen"], tuple(state["before"]), state["frozen"]


def first_active(before: Sequence[float], now: Sequence[float], frozen: int, percentile: float) -> int:
    """The number of layers to freeze, from the gradient norms of two intervals and the number frozen already.

    A layer that had no gradient before counts as changing without limit.
    """
    change = [abs(b - n) / b if b else float("inf") for b, n in zip(before[frozen:], now[frozen:], strict=True)]
    finite = [eta for eta in change if eta != float("inf")]
    if not finite:
        return frozen
    threshold = float(torch.quantile(torch.tensor(finite, dtype=torch.float64), percentile / 100))
    return frozen + next((place for place, eta in enumerate(change) if eta >= threshold), 0)
