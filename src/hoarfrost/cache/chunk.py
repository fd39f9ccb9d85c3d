"""One (chunk, view) as it is read back, or why it cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..codecs import Packed
from .spec import CacheSpec

__all__ = ["Chunk", "Damage"]


@dataclass(frozen=True, eq=False)
class Chunk:
    """What `read` gives: `sample_ids` int64 `[n]`, `targets` `[n, ...]`, and `packed` in physical order.

    `edition` is the rendition that the record shows, as it was given when it was written. `lengths` int64 `[n]` says
    how many rows of the features each sample has; None: one.
    """

    sample_ids: Tensor
    targets: Tensor
    packed: Packed
    spec: CacheSpec
    edition: int = 0
    lengths: Tensor | None = None

    def features(self) -> Tensor:
        """The decoded features `[n, C, H, W]` in logical order (channels_last in memory where the spec
        says so).
        """
        return self.spec.dense(self.packed)


@dataclass(frozen=True)
class Damage:
    """A record that cannot be read, and why."""

    chunk: int
    view: int
    path: Path
    reason: str
