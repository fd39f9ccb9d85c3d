"""Annealing each segment before it freezes, for any policy with known times."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..cuts import Cut, candidate_depths
from ..errors import PolicyError
from .known_times import known_epochs
from .policy import describe, may_thaw
from .policy_wrapper import PolicyWrapper
from .state import TrainState

__all__ = ["Annealed"]


@dataclass
class Annealed(PolicyWrapper):
    """Another policy, with each segment's learning rate falling to zero along half a cosine before it freezes.

    The rate is the loop's own times that factor; segments that never freeze keep the loop's. FreezeOut's idea (Brock et
    al. 2017, arXiv 1706.04983), without its scaling, for times that another policy chose. Ours.

    Args:
        policy: one that knows its times beforehand (it has `next_change`) and never thaws; None: `Schedule()`.
        over: share of the time up to the freeze in which the rate falls.

    Raises:
        PolicyError: the policy does not know its times, thaws, or sets rates itself; or `over` is not in (0, 1].
    """

    over: float = 1.0
    _stops: tuple[float, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not hasattr(self._inner, "next_change"):
            raise PolicyError(
                f"Annealed needs a policy that knows its times; {describe(self._inner)} decides as it goes"
            )
        if may_thaw(self._inner) or hasattr(self._inner, "rate"):
            raise PolicyError(
                f"Annealed needs a policy that never thaws and sets no rates, not {describe(self._inner)}"
            )
        if not 0 < self.over <= 1:
            raise PolicyError(f"{self!r}: over must be above 0 and at most 1")

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        """Learn when each segment will freeze."""
        super().prepare(cuts, epochs)
        epochs = known_epochs(self, epochs)
        reached = [self._inner(TrainState(epoch, epochs, 0, cuts)) for epoch in range(epochs)]
        # From the first on, so that a depth that is asked for stays asked for.
        self._stops = tuple(
            next((epoch / epochs for epoch, frozen in enumerate(reached) if frozen >= depth), math.inf)
            for depth in candidate_depths(cuts)[1:]
        )

    def rate(self, segment: int, segments: int, done: float, lr: float, began: float) -> float:
        """The loop's own rate times the segment's factor."""
        stop = self._stops[segment] if segment < len(self._stops) else math.inf
        if done >= stop:
            return 0.0
        if math.isinf(stop):
            return lr
        begins = stop * (1 - self.over)
        fallen = max(0.0, done - begins) / (stop - begins)
        return lr * 0.5 * (1 + math.cos(math.pi * fallen))
