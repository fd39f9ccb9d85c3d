"""A higher learning rate for what still trains, in the time that freezing has saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import PolicyError
from .policy import describe, interval, may_thaw
from .policy_wrapper import PolicyWrapper
from .state import TrainState

__all__ = ["Boosted"]


@dataclass
class Boosted(PolicyWrapper):
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

    factor: float = 1.5
    _begun: float | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        own = hasattr(self._inner, "rate") or hasattr(self._inner, "gradient_epochs")
        if may_thaw(self._inner) or own or interval(self._inner) is not None:
            raise PolicyError(
                "Boosted needs a policy that never thaws, sets no rates, watches no gradients and is asked between "
                f"epochs, not {describe(self._inner)}"
            )
        if self.factor < 1:
            raise PolicyError(f"{self!r}: factor is at least 1")

    def rate(self, segment: int, segments: int, done: float, lr: float, began: float) -> float:
        """The loop's own rate times the factor of the moment."""
        if self._begun is None or done >= 1:
            return lr
        return lr * (1 + (self.factor - 1) * (1 - done) / (1 - self._begun))

    def __call__(self, state: TrainState, /) -> int:
        depth = super().__call__(state)
        if depth and self._begun is None and state.epochs:
            self._begun = state.epoch / state.epochs
        return depth

    def state_dict(self) -> dict[str, Any]:
        remembered = getattr(self._inner, "state_dict", None)
        return {"begun": self._begun, "policy": None if remembered is None else remembered()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._begun = state["begun"]
        if state["policy"] is not None:
            self._inner.load_state_dict(state["policy"])
