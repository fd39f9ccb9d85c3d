"""How the freezer asks a policy: with what watches the model for it, and an answer that is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..cuts import Cut
from ..errors import PolicyError
from ..watching import Observer
from .policy import Policy, describe, interval, may_thaw
from .state import TrainState

__all__ = ["checked_depth", "observer_for"]


def observer_for(
    policy: Policy,
    model: nn.Module,
    cuts: tuple[Cut, ...],
    example: Tensor,
    probe: Callable[[], Tensor],
    optimizer: Any,
    epochs: int | None,
    steps: int,
) -> Observer:
    """What watches `model` as far as the policy says that it wants to know.

    Raises:
        PolicyError: the policy sets learning rates, and the optimizer does not allow one for each segment.
    """
    every: Callable[[int | None], int] | None = getattr(policy, "gradient_epochs", None)
    return Observer(
        model,
        cuts,
        example,
        probe=probe,
        optimizer=optimizer,
        epochs=epochs,
        steps=steps,
        gradient_epochs=None if every is None else every(epochs),
        every_steps=interval(policy),
        rate=getattr(policy, "rate", None),
    )


def checked_depth(policy: Policy, state: TrainState, before: int | None = None) -> int:
    """The depth that `policy` asks for.

    Args:
        before: what it asked for last, where more is frozen than that for another reason; None: `state.depth`.

    Raises:
        PolicyError: the answer is no whole number, goes past the last cut, or thaws where the policy does not.
    """
    answer = policy(state)
    when = f"at step {state.within} of" if state.within else "before"
    asked = f"the policy {describe(policy)} asked {when} epoch {state.epoch} for depth {answer!r}"
    if isinstance(answer, bool) or not isinstance(answer, int) or answer < 0:
        raise PolicyError(f"{asked}: a depth is a whole number from 0 to {len(state.cuts)}")
    if answer > len(state.cuts):
        raise PolicyError(
            f"{asked}, past the last cut: the model has {len(state.cuts)} cuts, "
            f"the last is {state.cuts[-1].label!r} (depth {len(state.cuts)})"
        )
    least = state.depth if before is None else before
    if answer < least and not may_thaw(policy):
        raise PolicyError(
            f"{asked}, but depth {least} is frozen already, and only a policy with the attribute thaws = True goes "
            "back: otherwise a depth may stay or rise"
        )
    return answer
