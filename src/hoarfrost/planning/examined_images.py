"""The images that sensitivity is looked at on: in parts, and in renditions that differ in one step alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ..augment import Draw
from ..samples import EXAMPLES, OnDevice, Order, Renditions, Samples, TrainingData

__all__ = ["ExaminedImages"]

PART = 64
"""Images measured together: as many as a chunk holds, so that the codec's ranges and the bytes are a chunk's."""


class ExaminedImages:
    """The images that are looked at, in parts, and their renditions."""

    def __init__(self, samples: Samples, count: int, seed: int, on_device: OnDevice) -> None:
        self.samples, self._seed = samples, seed
        ids = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))[:count]
        renditions = Renditions(samples, seed)
        # Parts of nearly one size: their plain mean is the mean over the images.
        self.parts = [
            TrainingData(samples, _Part(part), renditions, on_device, batch_size=PART)
            for part in ids.tensor_split(-(-count // PART))
        ]
        self.example = self.parts[0].images(ids[:EXAMPLES], renditions.view(0, 0))

    @property
    def random_steps(self) -> Iterator[tuple[str, int]]:
        """Name and position of each step that two renditions may differ in; a name that comes again has a number."""
        seen: Counter[str] = Counter()
        for position, step in enumerate(self.samples.pipeline.steps):
            if step.is_random:
                seen[step.name] += 1
                yield (step.name if seen[step.name] == 1 else f"{step.name}#{seen[step.name]}"), position

    def alone(self, step: int) -> list[TrainingData]:
        """The same parts in renditions that differ in that step alone."""
        renditions = _Alone(self.samples, self._seed, step)
        return [replace(part, renditions=renditions) for part in self.parts]


class _Part(Order):
    """Given samples, as an order's only chunk."""

    def __init__(self, ids: Tensor) -> None:
        super().__init__(samples=len(ids), seed=0, chunk_size=len(ids))
        object.__setattr__(self, "_ids", ids)

    def members(self, chunk: int) -> Tensor:
        ids: Tensor = self._ids  # type: ignore[attr-defined]
        return ids


class _Alone(Renditions):
    """Renditions that differ in one step of the transform alone; the others change nothing, or always the same.

    A crop is held in the middle, where a flip is nothing but a flip: beside it the flip would move the image too.
    """

    def __init__(self, samples: Samples, seed: int, step: int) -> None:
        super().__init__(samples, seed)
        self._still = samples.pipeline.still(len(samples))
        self._step = step

    def view(self, event: int, view: int, edition: int = 0) -> Draw:
        drawn = super().view(event, view, edition)
        decisions = list(self._still.decisions)
        decisions[self._step] = drawn.decisions[self._step]
        return replace(drawn, decisions=tuple(decisions))
