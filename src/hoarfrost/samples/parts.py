"""An epoch that is shown in parts, each shared among so many ranks in its own way: no sample is in two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

__all__ = ["Left", "Part"]


@dataclass(frozen=True)
class Part:
    """So many batches on each of so many ranks.

    Attributes:
        by_chunks: whether they came chunk by chunk, as features do; else in a full shuffle, as images do.
    """

    ranks: int
    batch_size: int
    drop_last: bool
    batches: int
    by_chunks: bool

    def alike(self, other: Part) -> bool:
        """Whether the other divides what is left in the same way, and may go on with the same shares."""
        return (self.ranks, self.batch_size, self.drop_last) == (other.ranks, other.batch_size, other.drop_last)

    def to_config(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Part:
        """The inverse of `to_config`.

        Raises:
            ValueError: there is no such part.
        """
        part = cls(**config)
        counts = part.ranks, part.batch_size, part.batches
        if not all(type(n) is int and n >= 1 for n in counts):
            raise ValueError(f"a part of an epoch has ranks, samples a batch and batches, not {counts}")
        return part


@dataclass(frozen=True, eq=False)
class Left:
    """What is left of an epoch behind its first parts.

    Attributes:
        samples: whether a sample is, bool [N].
        batches: that each rank was given in those parts.
    """

    samples: Tensor
    batches: int

    @cached_property
    def count(self) -> int:
        return int(self.samples.sum())
