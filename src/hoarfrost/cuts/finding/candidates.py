"""The cuts that criteria choose among."""

from __future__ import annotations

from collections.abc import Sequence

from ..cut import Cut

__all__ = ["candidate_cuts", "candidate_depths"]


def candidate_cuts(cuts: Sequence[Cut]) -> tuple[Cut, ...]:
    """The cuts that criteria choose among: the recommended ones, or all where none is."""
    return tuple(cut for cut in cuts if cut.recommended) or tuple(cuts)


def candidate_depths(cuts: Sequence[Cut]) -> tuple[int, ...]:
    """The depth for each number of frozen segments, from 0 on."""
    return 0, *(cut.index + 1 for cut in candidate_cuts(cuts))
