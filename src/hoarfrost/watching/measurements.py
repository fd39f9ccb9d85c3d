"""What the freezer measures for a policy that asks: the clock, prices of depths, trials."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..codecs import Shared
from ..costs.clock import Clock, seconds_of
from ..cuts import Cut, candidate_cuts
from .prices import DepthPrice, EpochTime, Prices, Trial
from .timings import step_times
from .trials import trial

__all__ = ["Workbench"]

CALIBRATED = 256
"""Samples of a calibration."""
RUNS = 24
"""Forward passes of the suffix over them, about: so many does a ladder take that is bisected twice."""
ESTIMATED = 1024
"""Images that batch norms' statistics are estimated from."""
HELD = 4
"""Batches that a trial is judged on."""


class Workbench:
    """Measures one training, on copies; what that takes is counted as the training's own.

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
        """Wall seconds of all epochs, builds and of what was measured here."""
        return self._clock.total_seconds

    def wall(self) -> float:
        """Wall seconds since the freezer was made, and of earlier processes."""
        return self.before + time.perf_counter() - self._began

    def epochs(self) -> list[EpochTime]:
        """Of each epoch that is done."""
        done = [record for record in self._history() if record["event"] == "epoch" and record["seconds"] is not None]
        return [EpochTime(record["depth"], record["source"], record["seconds"]) for record in done]

    def prices(self) -> Prices:
        """Time a few steps on a copy of the model, and the rendering of a batch."""
        with self._clock.building():
            cuts = candidate_cuts(self._cuts)
            source = self._batches()
            batch, _ = next(source)
            began, rendered = time.perf_counter(), 0
            for images, _ in itertools.islice(source, 3):
                rendered += len(images)
            rendering = (time.perf_counter() - began) / rendered if rendered else 0.0
            times = step_times(self._model, cuts, batch)
            a_batch = self._samples / len(batch)
            decoding = _decoding(times.features, cuts[0].channel_axis)
        return Prices(
            step=times.full * a_batch,
            images=rendering * self._samples,
            views=self._views,
            depths=tuple(
                DepthPrice(
                    depth=cut.index + 1,
                    suffix=suffix * a_batch,
                    prefix=prefix * a_batch,
                    read=decoding * sum(prod(tensor.shape or (0,)) for tensor in cut.tensors) * self._samples,
                    # A forward pass is about a third of forward and backward; statistics are estimated before.
                    settle=RUNS * suffix / 3 * min(CALIBRATED, self._samples) / len(batch)
                    + (prefix / len(batch) + rendering) * min(ESTIMATED, self._samples),
                )
                for cut, suffix, prefix in zip(cuts, times.suffixes, times.prefixes, strict=True)
            ),
        )

    def trial(self, depth: int, steps: int) -> Trial | None:
        """Train two copies for a few steps, one with all up to `depth` frozen."""
        batches = list(itertools.islice(self._batches(), steps + HELD))
        targets = batches[0][1]
        plain = isinstance(self._optimizer, torch.optim.Optimizer)
        if not plain or targets.is_floating_point() or targets.dim() != 1 or len(batches) < steps + 1:
            return None
        with self._clock.building():
            return trial(
                self._model, self._optimizer, self._cuts[depth - 1], self._example, batches[:steps], batches[steps:]
            )


def _decoding(features: Tensor, channel_axis: int) -> float:
    """Seconds to decode one value of features like these [N, ...]."""
    codec = Shared(16)
    features = features.detach().cpu()
    payload = codec.encode(features, channel_axis)
    return seconds_of(lambda: codec.decode(payload, features.shape, features.dtype, channel_axis)) / features.numel()
