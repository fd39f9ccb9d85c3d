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
from ..codecs.outputs import shows
from ..costs import seconds_a_chunk
from ..cuts import Cut, InTraining, arguments_of
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
            parts.append(tensors[: len(cut.rows)])  # of further calls of the model alike
            targets.append(source.samples.under(beside, draw))

        run(0)
        chunks = source.order.chunks
        fitting = SAMPLE_BYTES // max(1, sum(tensor.numel() * tensor.element_size() for tensor in parts[0]))
        for chunk in range(1, max(1, min(most, -(-chunks // 16), fitting))):
            run(chunk)
        tensors = tuple(torch.cat(column) for column in zip(*parts, strict=True))
        specs = (
            feature_spec(crossing, tensor, source.order, Exact())
            for crossing, tensor in zip(cut.rows, tensors, strict=True)
        )
        prefix_seconds = chunks * seconds_a_chunk(seconds)
        compared = source.samples.compared(torch.cat(targets))
        return cls(source, cut, tensors, parts[0], compared, tuple(specs), len(parts), prefix_seconds)

    def call_with(self, part: Tensor, start: int, number: int = 0) -> Any:
        """What the suffix is called with where these rows of one of the tensors are `part`, the others as they are."""
        device = self.source.on_device.device
        rows = [part if n == number else t[start : start + len(part)] for n, t in enumerate(self.tensors)]
        scalar = [crossing.shape == () for crossing in self.cut.rows]
        moved = iter([(row[:, 0] if one else row).to(device) for row, one in zip(rows, scalar, strict=True)])
        brought = self._brought(slice(start, start + len(part)))
        given = tuple(brought[c.source] if c.shape is None else next(moved) for c in self.cut.tensors)
        return given if len(given) > 1 else given[0]

    def _brought(self, rows: slice) -> dict[Any, Any]:
        """The arguments that calls bring themselves, for some rows of the sample."""
        if not self.cut.brought:
            return {}
        called_with = self.source.on_device(self.source.samples.arguments(self.ids[rows]))
        return arguments_of(called_with)

    def judged(self, suffix: nn.Module, harm: Any) -> tuple[nn.Module, Task]:
        """The suffix as it is judged, and how: told by `harm`, the outputs or the targets, see `task_of`.

        It is judged in eval, or where it shows nothing there by which it could be, by the losses that it gives in
        training.
        """
        outputs = self._outputs(suffix)
        if not shows(outputs[0]):
            suffix = InTraining(suffix)
            outputs = self._outputs(suffix)
        return suffix, task_of(harm, outputs, self.targets)

    def _outputs(self, suffix: nn.Module) -> list[Any]:
        with evaluating(suffix):
            batches = enumerate(torch.split(self.features, self.specs[0].chunk_size))
            return [suffix(self.call_with(part, n * self.specs[0].chunk_size)) for n, part in batches]

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
