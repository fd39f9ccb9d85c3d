"""What lies in front of each cut."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..cut import Cut
from ..sandbox.arguments import Example
from ..tracing.survey import survey
from .partition import Plan

__all__ = ["parameters_in_front"]


def parameters_in_front(model: nn.Module, cuts: Sequence[Cut], example: Example) -> list[tuple[str, ...]]:
    """For each cut the names of the parameters that a freeze there makes inert, those that both sides read included.

    Args:
        cuts: of `find_cuts(model, example)`.
    """
    if not cuts:
        return []
    seen = survey(model, example)
    plans = [Plan(seen, cut) for cut in cuts]
    return [tuple(name for name in seen.parameters if plan.sides[name][0]) for plan in plans]
