"""What a policy may have measured of the training itself: seconds spent, prices of depths, trials of freezes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..codecs import evaluating
from ..codecs.outputs import shows
from ..costs import Clock
from ..cuts import Cut, InTraining, called, hooks_apart
from ..freezing import TrainingPrecision
from ..samples import TrainingData
from .hooks import cuda_devices
from .prices import Prices, measure_prices
from .training_loss import training_loss
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
        data: that it is trained on.
        loss: that it is trained with: a function (outputs, targets) -> loss, or what the outputs are, as for
            `training_loss`.
        views: that a freeze would store; 0: it recomputes; None: that is left to be told.
        history: the freezer's records.
        clock: the freezer's.
        precision: that steps compute in; None: what is around this call.
    """

    def __init__(
        self,
        model: nn.Module,
        cuts: Sequence[Cut],
        data: TrainingData,
        optimizer: Any,
        loss: Any = "auto",
        *,
        views: int | None,
        history: Callable[[], Sequence[dict[str, Any]]],
        clock: Clock,
        precision: TrainingPrecision | None = None,
    ) -> None:
        self._model, self._cuts, self._data, self._optimizer = model, tuple(cuts), data, optimizer
        self._loss, self._views, self._history, self._clock = loss, views, history, clock
        self._precision = precision or TrainingPrecision(None, data.on_device.device)
        self.epoch = 0
        """Whose batches are measured on: the coming one."""
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
            batches, samples = self._data.live_inputs(self.epoch), len(self._data.samples)
            precision = self._precision.now
            return measure_prices(
                self._model, self._cuts, batches, samples=samples, views=self._views, precision=precision
            )

    def trial(self, depth: int, steps: int) -> Trial | None:
        """Freeze a copy of the model and train it for a few steps; None where there is no loss, or no optimizer."""
        batches = list(itertools.islice(self._data.live_inputs(self.epoch), steps + HELD))
        if not isinstance(self._optimizer, torch.optim.Optimizer) or len(batches) < steps + 1:
            return None
        with self._clock.building():
            cut, example = self._cuts[depth - 1], self._data.example
            inputs, targets = batches[0]
            precision = self._precision.now
            gpus = cuda_devices(inputs)
            with torch.random.fork_rng(gpus), evaluating(self._model), precision.autocast(), hooks_apart(self._model):
                outputs = called(self._model, inputs)
                in_training = not shows(outputs)
                outputs = called(InTraining(self._model), inputs) if in_training else outputs
                loss = training_loss(self._loss, outputs, targets)
            if loss is None:
                return None
            shown, held, loss = batches[:steps], batches[steps:], replace(loss, in_training=in_training)
            return trial(self._model, self._optimizer, cut, example, shown, held, loss, precision)
