"""A higher learning rate for what still trains, in the time that freezing has saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..cuts import Cut
from ..errors import PolicyError
from .known_times import known_epochs
from .policy import Policy, announced_change, describe, interval, may_thaw, prepared
from .schedule import Schedule
from .state import TrainState

__all__ = ["Boosted"]


@dataclass
class Boosted:
    """Another policy; from its first freeze on, the rate is higher by a factor that falls to one with the training.

    `rate = loop's own * (1 + (factor - 1) * (1 - done) / (1 - begun))`, `begun` the share of the training that was done
    at the first freeze. Ours.

    Args:
        policy: one that never thaws, sets no rates, watches no gradients and is asked between epochs; None:
            `Schedule()`.
        factor: right behind the first freeze.

    Raises:
        PolicyError: the policy thaws or sets rates itself; or the factor is below 1.
    """

    policy: Policy | None = None
    factor: float = 1.5
    _begun: float | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.policy = Schedule() if self.policy is None else self.policy
        own = hasattr(self.policy, "rate") or hasattr(self.policy, "gradient_epochs")
        if may_thaw(self.policy) or own or interval(self.policy) is not None:
            raise PolicyError(
                "Boosted needs a policy that never thaws, sets no rates, watches no gradients and is asked between "
                f"epochs, not {describe(self.policy)}"
            )
        if self.factor < 1:
            raise PolicyError(f"{self!r}: factor is at least 1")

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        known_epochs(self, epochs)
        prepared(self._inner, cuts, epochs)

    def rate(self, segment: int, segments: int, done: float, lr: float, began: float) -> float:
        """The loop's own rate times the factor of the moment."""
        if self._begun is None or done >= 1:
            return lr
        return lr * (1 + (self.factor - 1) * (1 - done) / (1 - self._begun))

    def __call__(self, state: TrainState, /) -> int:
        depth: int = self._inner(state)
        if depth and self._begun is None and state.epochs:
            self._begun = state.epoch / state.epochs
        return depth

    def next_change(self, state: TrainState) -> int | None:
        return announced_change(self._inner, state)

    @property
    def _inner(self) -> Any:
        return self.policy

    def state_dict(self) -> dict[str, Any]:
        remembered = getattr(self.policy, "state_dict", None)
        return {"begun": self._begun, "policy": None if remembered is None else remembered()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._begun = state["begun"]
        if state["policy"] is not None:
            self._inner.load_state_dict(state["policy"])
