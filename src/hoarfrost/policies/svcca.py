"""Freezing by singular vector canonical correlation with an earlier snapshot (freeze training)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..cuts import Cut
from ..watching import principal_directions, svcca
from .representation_similarity import RepresentationSimilarity

__all__ = ["SVCCA"]


@dataclass
class SVCCA(RepresentationSimilarity):
    """Freeze the front segments whose features have a mean SVCCA of at least `threshold` with an earlier snapshot.

    From Raghu et al. 2017 (arXiv 1706.05806), section 4.1 "freeze training", which fixes the times by hand; taking them
    from the measure, and the threshold, are our own. Every place of a feature map and every token is a data point of
    its own, as in the paper's section on convolutions. Where a cut has as many channels as there are data points (flat
    vectors wider than the 64 probe images) the measure is near 1 whatever the network does: use `CKA` there.
    """

    threshold: float = 0.97

    def summary(self, cut: Cut, features: Tensor) -> Tensor:
        """An orthonormal basis [positions, K] of the directions that explain 99 % of the variance."""
        rows = features.movedim(cut.channel_axis, -1).flatten(0, -2)
        return principal_directions(rows).float().cpu()

    def similarity(self, earlier: Tensor, now: Tensor) -> float:
        return svcca(earlier.double(), now.double())
