"""What policies share that know their times beforehand, as shares of the epochs."""

from __future__ import annotations

from dataclasses import replace

from ..cuts import Cut
from ..errors import NoCutError, PolicyError
from .policy import Policy, describe
from .state import TrainState

__all__ = ["check_shares", "known_change", "known_epochs", "require"]


def check_shares(policy: object, **shares: float) -> None:
    """Raise PolicyError for the first that is not between 0 and 1."""
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise PolicyError(f"{policy!r}: {name} is a share from 0 to 1, not {value!r}")


def require(policy: Policy, cuts: tuple[Cut, ...], epochs: int | None) -> None:
    """Raise what is missing: the number of epochs, or a place to cut at."""
    known_epochs(policy, epochs)
    if not cuts:
        raise NoCutError(f"{policy!r}: the model has no place where it can be divided")


def known_epochs(policy: Policy, epochs: int | None) -> int:
    """The number of epochs, for a policy that cannot do without.

    Raises:
        PolicyError: it is not known.
    """
    if epochs is None:
        raise PolicyError(f"{describe(policy)} needs to know the number of epochs: give Freezer(..., epochs=...)")
    return epochs


def known_change(policy: Policy, state: TrainState) -> int | None:
    """The next change of a policy that looks at nothing but the epoch: `next_change` for such policies."""
    now = policy(state)
    later = range(state.epoch + 1, state.epochs or 0)
    return next((epoch for epoch in later if policy(replace(state, epoch=epoch)) != now), None)
