"""Freezing by centred kernel alignment with an earlier snapshot."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..cuts import Cut
from ..watching import centred_gram, linear_cka
from .representation_similarity import RepresentationSimilarity

__all__ = ["CKA"]


@dataclass
class CKA(RepresentationSimilarity):
    """Freeze the front segments whose features have a linear CKA of at least `threshold` with an earlier snapshot.

    The measure is Kornblith et al. 2019 (arXiv 1905.00414); as a reason to freeze it is in SmartFRZ's labels
    (arXiv 2401.16720, against the finished model). Comparing with the model `every` epochs ago, and the threshold, are
    our own: no finished model exists while one trains. Watches 64 images; remembers a [64, 64] matrix a cut.
    """

    threshold: float = 0.99

    def summary(self, cut: Cut, features: Tensor) -> Tensor:
        """The centred Gram matrix [N, N]."""
        return centred_gram(features).cpu()

    def similarity(self, earlier: Tensor, now: Tensor) -> float:
        return linear_cka(earlier, now)
