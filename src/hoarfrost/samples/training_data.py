"""The data that a model is trained on, with all that decides what an epoch shows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..augment import Border
from ..cache import CacheSpec
from ..cuts import Cut
from ..settings import Reading, Rendering
from .dataset import Frame, Samples
from .derivation import Deriver, Way, grid_of
from .device import OnDevice
from .order import Order, batch_bounds, usable_batch_size
from .prefix_source import PrefixSource
from .renditions import Renditions

__all__ = ["EXAMPLES", "TrainingData"]

EXAMPLES = 8
"""Images that cuts are found and verified on."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A data set's samples, the order of its epochs, the random decisions behind its renditions, and where they go."""

    samples: Samples
    order: Order
    renditions: Renditions
    on_device: OnDevice
    batch_size: int

    @classmethod
    def of(
        cls,
        dataset: Dataset[Any],
        transform: Callable[[Any], Any] | None,
        reading: Reading,
        rendering: Rendering,
        device: torch.device,
    ) -> TrainingData:
        """Take over a data set and its transform; `close` of the samples gives it back.

        Raises:
            DatasetError, UnstableDataError, ArgumentError: as `Samples`.
        """
        samples = Samples(dataset, transform, rendering.workers)
        return cls(
            samples=samples,
            order=Order(len(samples), rendering.seed, window=reading.window),
            renditions=Renditions(samples, rendering.seed),
            on_device=OnDevice(device, rendering.channels_last),
            batch_size=usable_batch_size(reading.batch_size, len(samples)),
        )

    @cached_property
    def example(self) -> Tensor:
        """A few images as the model gets them, [B, ...]: enough for batch statistics, few enough to be quick."""
        draw = self.samples.pipeline.draw(len(self.samples), self.order.seed)
        count = min(EXAMPLES, len(self.samples), max(2, self.batch_size))
        return self.images(torch.arange(count), draw)

    @cached_property
    def frame(self) -> Frame | None:
        """The sizes behind its images; None for what is no image, or for raw sizes that differ."""
        return self.samples.frame(self.example)

    def images(self, ids: Tensor, draw: Any) -> Tensor:
        """[B, ...] of samples under a draw, on the device."""
        return self.on_device(self.samples.images(ids, draw)[0])

    def probe(self, count: int) -> Tensor:
        """[N, ...] from all over the data, changed as little as can be, for whoever looks at features."""
        ids = torch.linspace(0, len(self.samples) - 1, min(count, len(self.samples))).long()
        return self.images(ids, self.samples.pipeline.still(len(self.samples)))

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """Where an epoch's batches begin and end."""
        return batch_bounds(len(self.samples), self.batch_size)

    def live(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch's images [B, ...] in fresh renditions, and targets [B, ...], on the device.

        Args:
            start: batches to skip.
        """
        ids = self.order.shuffled(epoch)
        groups = [ids[begin:end] for begin, end in self.bounds][start:]
        for images, targets in self.samples.stream(groups, self.renditions.live(epoch)):
            yield self.on_device(images), targets.to(self.on_device.device)

    def source(self, prefix: nn.Module, spec: CacheSpec | None = None) -> PrefixSource:
        """What a prefix gives of the renditions of live epochs."""
        return PrefixSource(
            prefix=prefix,
            samples=self.samples,
            order=self.order,
            spec=spec,
            draw_for=lambda chunk, epoch: self.renditions.live(epoch),
            on_device=self.on_device,
        )

    def deriver(self, cut: Cut, way: Way, blank: Callable[[], Tensor | None]) -> Deriver | None:
        """What makes features of one rendition from another's; None where features or images allow none.

        Args:
            blank: gives the features that unknown cells get in that way.
        """
        grid = None if self.frame is None else grid_of(cut, self.frame.rendered)
        border: Border | None = blank() if way.border == "blank" else way.border
        if self.frame is None or grid is None or border is None:
            return None
        return Deriver(self.samples, self.order, self.frame, grid, border, way.form)
