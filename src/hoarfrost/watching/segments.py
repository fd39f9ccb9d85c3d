"""The parts of a model that criteria judge: what lies between two neighbouring recommended cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..cuts import Cut, candidate_cuts, parameters_in_front

__all__ = ["Segment", "segments_of"]


@dataclass(frozen=True)
class Segment:
    """Parameters that are frozen together.

    Attributes:
        depth: how deep the model is frozen once this segment is; None: the last one, which always trains.
        names: of its parameters, in the model.
        parameters: how many values they have.
    """

    depth: int | None
    names: tuple[str, ...]
    parameters: int


def segments_of(model: nn.Module, cuts: Sequence[Cut], example: Any) -> tuple[Segment, ...]:
    """All parameters of the model, front to back: one segment in front of each candidate cut, one behind the last.

    A parameter that both sides of a cut read belongs to the front one, as in a freeze.
    """
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters(remove_duplicate=False)}
    seen: set[str] = set()
    segments = []
    candidates = candidate_cuts(cuts)
    for cut, front in zip(candidates, parameters_in_front(model, candidates, example), strict=True):
        names = tuple(name for name in front if name not in seen)
        seen.update(names)
        segments.append(Segment(cut.index + 1, names, sum(sizes[name] for name in names)))
    rest = tuple(name for name in sizes if name not in seen)
    return *segments, Segment(None, rest, sum(sizes[name] for name in rest))
