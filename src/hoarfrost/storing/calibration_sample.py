"""The features of a few chunks, exact: what a freeze is calibrated on."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ..augment import Draw
from ..cache import CacheSpec
from ..codecs import Exact
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
        specs: of caches that hold them as they are.
        chunks: how many there are.
        prefix_seconds: of one pass of the prefix over all chunks, not only these.
    """

    source: PrefixSource
    tensors: tuple[Tensor, ...]
    first: tuple[Tensor, ...]
    specs: tuple[CacheSpec, ...]
    chunks: int
    prefix_seconds: float

    @classmethod
    def take(cls, source: PrefixSource, cut: Cut, draw: Draw, most: int = 4) -> CalibrationSample:
        """Run the prefix on the renditions of `draw`, of at most so many chunks."""
        seconds, parts = [], []

        def run(chunk: int) -> None:
            began = time.perf_counter()
            parts.append(source.tensors(chunk, draw)[0])
            seconds.append(time.perf_counter() - began)

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
        return cls(source, tensors, parts[0], tuple(specs), len(parts), chunks * seconds_a_chunk(seconds))

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
