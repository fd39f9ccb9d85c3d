"""Freezing what the user has frozen: `requires_grad=False`, as every framework says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..cuts import Cut, candidate_cuts
from ..errors import PolicyError
from .schedule import flops_share
from .state import TrainState

__all__ = ["AsFrozen"]


@dataclass(frozen=True)
class AsFrozen:
    """Freeze up to the deepest cut in front of which no parameter has `requires_grad`, from the first epoch on.

    What the user freezes or unfreezes later is followed before the next epoch. Adapters between frozen layers (LoRA)
    want gradients: then all in front of the first of them freezes.

    Raises:
        PolicyError: asked before the first epoch, no front is frozen; the message lists the recommended cuts, and what
            freezing up to each would save.
    """

    thaws: ClassVar[bool] = True

    def __call__(self, state: TrainState, /) -> int:
        depth = state.inert_depth
        if not depth and not state.epoch:
            raise PolicyError(
                'policy "frozen" takes over what has requires_grad=False, and no cut has all in front of it so: '
                "set it for all layers up to a cut, or name a cut, policy={0: ...}; of a step these save so much: "
                f"{_listed(state.cuts)}"
            )
        if depth and state.nothing_trains:
            raise PolicyError('policy "frozen": all parameters have requires_grad=False: nothing would train')
        return depth


def _listed(cuts: Sequence[Cut]) -> str:
    """The recommended cuts, each with the share of a training step that freezing up to it saves."""
    return ", ".join(f"{cut.label} ({flops_share(cut):.0%})" for cut in candidate_cuts(cuts)) or "it has none"
