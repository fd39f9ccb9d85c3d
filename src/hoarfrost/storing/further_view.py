"""A further view of the calibration sample: exact, and what the base view gives for it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..codecs import Task, divergence
from ..cuts import Cut
from ..freezing import Division
from ..samples import WAYS, Order, TrainingData, Way, grid_of
from .calibration_sample import CalibrationSample
from .distances import channel_distance, channel_harm

__all__ = ["FurtherView", "why_not_derived"]


def why_not_derived(cut: Cut, data: TrainingData) -> str | None:
    """Why features of one view cannot be made from those of another, in words; None where they can: features on a grid,
    and geometry to follow."""
    if all(step.kind != "paired" for step in data.samples.pipeline.steps):
        return "no step of the transform has a form on features, as flips and padded crops have"
    if cut.others:
        return "several tensors cross the cut"
    if grid_of(cut, (1, 1)) is None:
        return f"only features on a grid of the image can be moved, and there they are {cut.layout!r}"
    if data.image_size is None:
        return "what the model is called with are no images of one size"
    return data.samples.frames.unplaced


class FurtherView:
    """Another view of the calibration sample, exact, and what the base view gives for it."""

    def __init__(self, sample: CalibrationSample, division: Division, data: TrainingData) -> None:
        source, cut, event = sample.source, division.cut, division.event
        self._draws = data.renditions.view(event, 0), data.renditions.view(event, 1)
        self._rows = [range(n, n + data.order.size(chunk)) for chunk, n in _begins(data.order, len(sample.features))]
        self.exact = torch.cat([source.features(chunk, self._draws[1])[0] for chunk in range(len(self._rows))])
        blank = source.blank()
        made = {way: data.deriver(cut, way, lambda: blank) for way in WAYS}
        self._derivers = {way: deriver for way, deriver in made.items() if deriver is not None}
        self._axis, self._device = cut.channel_axis, data.on_device.device

    def derived(self, base: Tensor, way: Way) -> Tensor:
        """From the base view's features, exact or decoded."""
        derive = self._derivers[way].derive
        return torch.cat([derive(base[rows.start : rows.stop], n, *self._draws) for n, rows in enumerate(self._rows)])

    def way(self, border: str, base: Tensor, suffix: nn.Module, task: Task) -> Way:
        """Whole cells moved with the border that was told; "auto", and what shows nothing there: the best way."""
        told = next((way for way in self._derivers if way.border == border and way.form == "cells"), None)
        return told or self.best(base, suffix, task)

    def best(self, base: Tensor, suffix: nn.Module, task: Task) -> Way:
        """The way whose features let the suffix's outputs diverge least from those on the exact ones.

        Not the one whose features are nearest: measured, blended cells are nearer and three times as harmful.
        """
        return min(
            self._derivers, key=lambda way: divergence(suffix, self.exact, self.derived(base, way), self._device, task)
        )

    def sensitivity(self, base: Tensor, way: Way, suffix: nn.Module, metric: str, task: Task, seed: int) -> Tensor:
        """How far each channel is from what the base view gives for it, [C]."""
        derived = self.derived(base, way)
        if metric == "harm":
            exact, derived = self.exact.to(self._device), derived.to(self._device)
            return channel_harm(suffix, exact, derived, self._axis, seed=seed, task=task)
        grid = next(iter(self._derivers.values())).grid
        return channel_distance(self.exact, derived, metric, self._axis, grid)


def _begins(order: Order, rows: int) -> Iterator[tuple[int, int]]:
    """(chunk, its first row) of the chunks in a calibration sample."""
    begin = 0
    for chunk in range(order.chunks):
        if begin + order.size(chunk) > rows:
            return
        yield chunk, begin
        begin += order.size(chunk)
