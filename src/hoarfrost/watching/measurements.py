"""What a policy may have measured of the training itself: seconds spent, prices of depths, trials of freezes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..costs.clock import Clock
from ..cuts import Cut
from .prices import Prices, measure_prices
from .trials import Trial, trial

__all__ = ["EpochTime", "Measurements"]

HELD = 4
"""Batches that a trial is judged on."""


@dataclass(frozen=True)
class EpochTime:
    """An epoch that is done.

    Attributes:
        source: "images", "cache" or "recompute".
    """

    depth: int
    source: str
    seconds: float


class Measurements:
    """Measures one training, on copies, when it is asked; what that takes is counted as the training's own.

    Model, optimizer and random state stay as they are.

    Args:
        batches: from which batch on -> batches of the coming epoch, as they would be trained on.
        samples: in an epoch.
        views: that a freeze would store; 0: it recomputes.
        history: the freezer's records.
        clock: the freezer's.
    """

    def __init__(
        self,
        model: nn.Module,
        cuts: Sequence[Cut],
        example: Tensor,
        optimizer: Any,
        *,
        batches: Callable[[], Iterator[tuple[Tensor, Tensor]]],
        samples: int,
        views: int,
        history: Callable[[], Sequence[dict[str, Any]]],
        clock: Clock,
    ) -> None:
        self._model, self._cuts, self._example, self._optimizer = model, tuple(cuts), example, optimizer
        self._batches, self._samples, self._views = batches, samples, views
        self._history, self._clock = history, clock
        self._began, self.before = time.perf_counter(), 0.0
        """Wall seconds of earlier processes."""

    def training(self) -> float:
        """Wall seconds of all epochs, builds and of what was measured here, so far."""
        return self._clock.total_seconds

    def wall(self) -> float:
        """Wall seconds since the freezer was made, those of earlier processes included."""
        return self.before + time.perf_counter() - self._began

    def epochs(self) -> list[EpochTime]:
        """Of each epoch that is done."""
        done = [record for record in self._history() if record["event"] == "epoch" and record["seconds"] is not None]
        return [EpochTime(record["depth"], record["source"], record["seconds"]) for record in done]

    def prices(self) -> Prices:
        """Time a few steps on a copy of the model, and the rendering of a few batches."""
        with self._clock.building():
            batches = self._batches()
            return measure_prices(self._model, self._cuts, batches, samples=self._samples, views=self._views)

    def trial(self, depth: int, steps: int) -> Trial | None:
        """Freeze a copy of the model and train it for a few steps; None where labels or optimizer do not allow it."""
        batches = list(itertools.islice(self._batches(), steps + HELD))
        targets = batches[0][1]
        plain = isinstance(self._optimizer, torch.optim.Optimizer)
        if not plain or targets.is_floating_point() or targets.dim() != 1 or len(batches) < steps + 1:
            return None
        with self._clock.building():
            return trial(
                self._model, self._optimizer, self._cuts[depth - 1], self._example, batches[:steps], batches[steps:]
            )
