"""The stages of a model: stretches of one resolution, or thirds of its work where that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ..cut import Cut
from .candidates import candidate_cuts

__all__ = ["stage_ends", "stage_of"]

FEWEST = 3
THIRDS = (1 / 3, 2 / 3)


def stage_ends(cuts: Sequence[Cut]) -> tuple[Cut, ...]:
    """The cut behind each stage of a model, from the front to the back, the last stage's left out.

    A stage is a stretch of recommended cuts whose features have one resolution (feature maps of so many cells, or so
    many tokens), as `layer1` to `layer4` of a ResNet. A model that has fewer than three, such as a ViT, is taken in
    three parts: the cuts nearest to a third and to two thirds of the forward FLOPs end the first two.

    Args:
        cuts: all of the model's.
    """
    candidates = candidate_cuts(cuts)
    laid_out = [cut for cut in candidates if _resolution(cut) is not None]
    ends = [list(stretch)[-1] for _, stretch in groupby(laid_out, _resolution)]
    if len(ends) >= FEWEST:
        return tuple(ends[:-1])
    found = [min(candidates, key=lambda cut: abs(_share(cut) - third)) for third in THIRDS] if candidates else []
    return tuple(sorted({cut.index: cut for cut in found}.values(), key=lambda cut: cut.index))


def stage_of(cuts: Sequence[Cut], cut: Cut) -> int:
    """The stage that a cut lies in or ends, from 0."""
    return sum(cut.index > end.index for end in stage_ends(cuts))


def _resolution(cut: Cut) -> tuple[int, ...] | None:
    """Cells or tokens of its features; None for a vector, and for what has no known layout."""
    at = {"NCHW": slice(1, None), "NHWC": slice(0, 2), "tokens": slice(0, 1), "NCL": slice(1, 2)}.get(cut.layout)
    return None if at is None else cut.shape[at]


def _share(cut: Cut) -> float:
    total = cut.prefix_flops + cut.suffix_flops
    return cut.prefix_flops / total if total else 0.0
