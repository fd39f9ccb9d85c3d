"""The features of a few chunks, exact: what a freeze is calibrated on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..augment import Draw
from ..cache import CacheSpec
from ..codecs import Exact, Task, evaluating, task_of
from ..costs import seconds_a_chunk
from ..cuts import Cut
from ..samples import PrefixSource
from .cache_specs import feature_spec

__all__ = ["CalibrationSample"]

SAMPLE_BYTES = 256 * 2**20
"""Memory for the sample's features: a sixteenth of the chunks, at most four, at least one."""


@dataclass(frozen=True)
class CalibrationSample:
    """All that crosses a cut, of the data's first chunks.

    Attributes:
        tensors: each [n, ...].
        first: the first chunk's.
        targets: [n, ...] that outputs are compared with; None where there are none.
        specs: of caches that hold them as they are.
        chunks: how many there are.
        prefix_seconds: of one pass of the prefix over all chunks, not only these.
    """

    source: PrefixSource
    cut: Cut
    tensors: tuple[Tensor, ...]
    first: tuple[Tensor, ...]
    targets: Tensor | None
    specs: tuple[CacheSpec, ...]
    chunks: int
    prefix_seconds: float

    @classmethod
    def take(cls, source: PrefixSource, cut: Cut, draw: Draw, most: int = 4) -> CalibrationSample:
        """Run the prefix on the renditions of `draw`, of at most so many chunks."""
        seconds, parts, targets = [], [], []

        def run(chunk: int) -> None:
            began = time.perf_counter()
            tensors, beside = source.tensors(chunk, draw)
            seconds.append(time.perf_counter() - began)
            parts.append(tensors[: len(cut.tensors)])  # of further calls of the model alike
            targets.append(source.samples.under(beside, draw))

        run(0)
        chunks = source.order.chunks
        fitting = SAMPLE_BYTES // max(1, sum(tensor.numel() * tensor.element_size() for tensor in parts[0]))
        for chunk in range(1, max(1, min(most, -(-chunks // 16), fitting))):
            run(chunk)
        tensors = tuple(torch.cat(column) for column in zip(*parts, strict=True))
        specs = (
            feature_spec(crossing, tensor, source.order, Exact())
            for crossing, tensor in zip(cut.tensors, tensors, strict=True)
        )
        prefix_seconds = chunks * seconds_a_chunk(seconds)
        compared = source.samples.compared(torch.cat(targets))
        return cls(source, cut, tensors, parts[0], compared, tuple(specs), len(parts), prefix_seconds)

    def call_with(self, part: Tensor, start: int, number: int = 0) -> Any:
        """What the suffix is called with where these rows of one of the tensors are `part`, the others as they are."""
        device = self.source.on_device.device
        rows = [part if n == number else t[start : start + len(part)] for n, t in enumerate(self.tensors)]
        scalar = [crossing.shape == () for crossing in self.cut.tensors]
        moved = tuple((row[:, 0] if one else row).to(device) for row, one in zip(rows, scalar, strict=True))
        return moved if len(moved) > 1 else moved[0]

    def task(self, suffix: nn.Module, harm: Any) -> Task:
        """How the suffix's outputs are judged, told by `harm`, the outputs or the targets: see `task_of`."""
        with evaluating(suffix):
            batches = enumerate(torch.split(self.features, self.specs[0].chunk_size))
            outputs = [suffix(self.call_with(part, n * self.specs[0].chunk_size)) for n, part in batches]
        return task_of(harm, outputs, self.targets)

    @property
    def features(self) -> Tensor:
        """[n, ...], those of the cut itself."""
        return self.tensors[0]

    @property
    def ids(self) -> Tensor:
        """Of the samples, [n]."""
        return torch.cat([self.source.order.members(chunk) for chunk in range(self.chunks)])

    @property
    def floating(self) -> tuple[int, ...]:
        """Which of the tensors hold floats; the others are stored as they are."""
        return tuple(number for number, tensor in enumerate(self.tensors) if tensor.is_floating_point())
