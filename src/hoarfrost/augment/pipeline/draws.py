"""The random decisions of one rendition of a whole data set."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

__all__ = ["STILL", "Draw", "mirrored_seed"]

STILL = -1


@dataclass(frozen=True, eq=False)
class Draw:
    """The random decisions of one rendition of every sample; row i belongs to sample i.

    Attributes:
        seed: what it was drawn from; `STILL` for the rendition that changes least; `mirrored_seed` of another's where
            it is that the other way round.
        samples: number of rows.
        decisions: for each step [samples, k]: a paired step's params, the seed of an image-only step (int64),
            or None.
    """

    seed: int
    samples: int
    decisions: tuple[Tensor | None, ...]

    def shared(self, leaders: Tensor) -> Draw:
        """The same with the decisions of sample `leaders[i]` for sample i, [samples]."""
        return replace(self, decisions=tuple(None if rows is None else rows[leaders] for rows in self.decisions))


def mirrored_seed(seed: int) -> int:
    """The seed of a rendition the other way round (`Pipeline.mirrored`), and from that the rendition's own."""
    return -3 - seed
