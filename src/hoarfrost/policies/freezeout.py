"""Layer-wise annealed learning rates (FreezeOut)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..cuts import Cut, candidate_depths
from ..errors import PolicyError
from .known_times import known_change, known_epochs
from .state import TrainState

__all__ = ["FreezeOut"]

POWERS = {"linear": 1, "squared": 2, "cubic": 3}


@dataclass(frozen=True)
class FreezeOut:
    """Each segment's learning rate falls to zero along a cosine of its own, the front ones' first; then it freezes.

    Segment i of 0 ... n stops at the share `t_i = f(t0 + (1 - t0) * i / n)` of the training, f the identity, square or
    cube. Its rate is `0.5 * a_i * (1 + cos(pi * t / t_i))`, with `a_i = lr / t_i` when scaled, else `lr`, the rate the
    optimizer began with: a scheduler of the loop has no effect. From Brock et al. 2017 (arXiv 1706.04983) and
    https://github.com/ajbrock/FreezeOut. Layers are modules there; here they are the parts between recommended cuts,
    and a segment that has stopped leaves at the end of the epoch, its rate being zero until then.

    Args:
        scale: "linear", "squared" or "cubic" (published default).
        t0: where the first layer stops, before f; published: 0.8.
        scaled: whether all layers travel the same total distance; published: True.

    Raises:
        PolicyError: `scale` is unknown, or `t0` not in (0, 1].
    """

    scale: str = "cubic"
    t0: float = 0.8
    scaled: bool = True

    def __post_init__(self) -> None:
        if self.scale not in POWERS:
            raise PolicyError(f"{self!r}: scale must be one of {', '.join(POWERS)}")
        if not 0 < self.t0 <= 1:
            raise PolicyError(f"{self!r}: t0 must be above 0 and at most 1")

    def stops(self, segment: int, segments: int) -> float:
        """The share of the training after which a segment has rate zero."""
        share = segment / (segments - 1) if segments > 1 else 1.0
        return float((self.t0 + (1 - self.t0) * share) ** POWERS[self.scale])

    def rate(self, segment: int, segments: int, done: float, lr: float, began: float) -> float:
        """The segment's learning rate at the share `done` of the training."""
        stop = self.stops(segment, segments)
        if done >= stop:
            return 0.0
        return 0.5 * (began / stop if self.scaled else began) * (1 + math.cos(math.pi * done / stop))

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        known_epochs(self, epochs)

    def __call__(self, state: TrainState, /) -> int:
        depths = candidate_depths(state.cuts)
        done = state.epoch / known_epochs(self, state.epochs)
        return depths[sum(self.stops(segment, len(depths)) <= done for segment in range(len(depths) - 1))]

    def next_change(self, state: TrainState) -> int | None:
        return known_change(self, state)
