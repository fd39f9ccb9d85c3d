"""Freezing layers whose plasticity has settled, against a quantised reference (Egeria)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..cuts import Cut, candidate_depths
from ..errors import PolicyError
from ..watching import row_normalised_gram, similarity_loss
from .policy import is_due
from .state import TrainState

__all__ = ["Egeria", "slope"]


@dataclass
class Egeria:
    """Freeze the foremost segment once its plasticity has stopped falling; thaw all when the rate drops tenfold.

    Plasticity is the similarity-preserving loss between the model's features of a probe batch and those of a reference:
    an earlier copy of the model, its linear layers quantised to 8 bits, made anew every `refresh` evaluations. It is
    smoothed by a moving mean over `window` values. When the least-squares slope of the last `window` smoothed values,
    relative to the largest slope seen at that segment, has stayed under `tolerance` for `window` evaluations, the
    segment freezes and the next one is judged.

    From Wang et al. 2023 (EuroSys, arXiv 2201.06227), section 4. No code is public. Reconstructed: an evaluation at the
    end of each epoch (or every `every_steps`), the window of 3 that goes with it, the order of smoothing and slope, and
    the reference's age. The probe runs between steps; its time is in the records as `watch_seconds`. A loop whose rate
    decays smoothly thaws too, once it has fallen to a tenth of what it was at the first freeze; `thaw_at=None` prevents
    that.

    Args:
        window: smoothed values in a slope, and evaluations that it must stay small.
        tolerance: share of the largest slope; published: 0.2.
        refresh: evaluations between two references.
        thaw_at: factor of the rate at the first freeze at which everything thaws; None: never.
        every_steps: steps of the training between two evaluations; None: an epoch.

    Raises:
        PolicyError: an argument is out of range.
    """

    window: int = 3
    tolerance: float = 0.2
    refresh: int = 5
    thaw_at: float | None = 0.1
    every_steps: int | None = None
    thaws: ClassVar[bool] = True
    _frozen: int = field(default=0, init=False, repr=False, compare=False)
    _asked: int = field(default=0, init=False, repr=False, compare=False)
    _reference: tuple[Tensor, ...] = field(default=(), init=False, repr=False, compare=False)
    _plasticity: list[float] = field(default_factory=list, init=False, repr=False, compare=False)
    _frozen_at: float | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.window < 2 or self.refresh < 1 or self.tolerance < 0:
            raise PolicyError(f"{self!r}: window is at least 2, refresh at least 1, tolerance at least 0")
        if self.thaw_at is not None and not 0 < self.thaw_at < 1:
            raise PolicyError(f"{self!r}: thaw_at is between 0 and 1, or None")

    def __call__(self, state: TrainState, /) -> int:
        depths = candidate_depths(state.cuts)
        self._thaw_if_the_rate_fell(state.lr)
        if is_due(self, state) and self._frozen < len(depths) - 1:
            self._evaluate(state)
        return depths[self._frozen]

    def _evaluate(self, state: TrainState) -> None:
        if self._reference:
            now = state.activations(_relations)
            self._plasticity.append(similarity_loss(now[self._frozen], self._reference[self._frozen]))
            if settled(self._plasticity, self.window, self.tolerance):
                self._frozen += 1
                self._plasticity = []
                self._frozen_at = state.lr if self._frozen_at is None else self._frozen_at
        if self._asked % self.refresh == 0:
            self._reference = state.activations(_relations, reference=True)
        self._asked += 1

    def _thaw_if_the_rate_fell(self, lr: float | None) -> None:
        if (
            self.thaw_at is None
            or lr is None
            or not self._frozen_at
            or lr > self.thaw_at * self._frozen_at * (1 + 1e-9)
        ):
            return
        self._frozen, self._plasticity, self._frozen_at = 0, [], None

    def state_dict(self) -> dict[str, Any]:
        return {
            "frozen": self._frozen,
            "asked": self._asked,
            "reference": list(self._reference),
            "plasticity": list(self._plasticity),
            "frozen_at": self._frozen_at,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._frozen, self._asked, self._frozen_at = state["frozen"], state["asked"], state["frozen_at"]
        self._reference, self._plasticity = tuple(state["reference"]), list(state["plasticity"])


def _relations(cut: Cut, features: Tensor) -> Tensor:
    return row_normalised_gram(features).cpu()


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """The moving mean of the last `window` values; shorter at the beginning."""
    means = []
    for end in range(1, len(values) + 1):
        last = values[max(0, end - window) : end]
        means.append(sum(last) / len(last))
    return means


def slope(values: Sequence[float]) -> float:
    """The least-squares slope of equally spaced values."""
    y = torch.tensor(values, dtype=torch.float64)
    x = torch.arange(len(y), dtype=torch.float64)
    x = x - x.mean()
    return float((x * y).sum() / x.square().sum())


def settled(values: Sequence[float], window: int, tolerance: float) -> bool:
    """Whether the last `window` slopes of the smoothed values lie within `tolerance` of the largest so far."""
    smooth = smoothed(values, window)
    slopes = [abs(slope(smooth[end - window : end])) for end in range(window, len(smooth) + 1)]
    return len(slopes) >= window and max(slopes[-window:]) <= tolerance * max(slopes)
