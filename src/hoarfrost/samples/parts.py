"""An epoch that is shown in parts, each shared among so many ranks in its own way: no sample is in two of them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Left", "Part"]


@dataclass(frozen=True)
class Part:
    """So many batches on each of so many ranks.

    Attributes:
        by_chunks: whether they came chunk by chunk, as features do; else in a full shuffle, as images do.
        drawn: which samples they held, one bit each in base 64, where a sampler of the user's drew them: nobody else
            could tell. None: the order says it.
    """

    ranks: int
    batch_size: int
    drop_last: bool
    batches: int
    by_chunks: bool
    drawn: str | None = None

    def with_samples(self, shown: Tensor) -> Part:
        """The same that knows which samples it held, bool [N]."""
        bits = base64.b64encode(np.packbits(shown.numpy()).tobytes()).decode()
        return Part(self.ranks, self.batch_size, self.drop_last, self.batches, self.by_chunks, bits)

    def samples(self, count: int) -> Tensor | None:
        """The inverse, of a data set of so many; None where they are not told.

        Raises:
            ValueError: it is told of another number.
        """
        if self.drawn is None:
            return None
        try:
            held = base64.b64decode(self.drawn, validate=True)
        except binascii.Error as error:
            raise ValueError(f"the samples of a part are no base 64: {error}") from None
        if len(held) != -(-count // 8):
            raise ValueError(f"a part tells of {8 * len(held)} samples, and there are {count}")
        return torch.from_numpy(np.unpackbits(np.frombuffer(held, np.uint8), count=count).astype(bool))

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
