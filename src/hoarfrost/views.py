"""Which renditions of a sample are stored, how much of each, and which one an epoch sees."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import ArgumentError
from .sensitivity import Selection

__all__ = ["Views"]

METRICS = ("cosine", "relative", "energy")


@dataclass(frozen=True)
class Views:
    """What is stored of each sample, and how an epoch draws from it.

    The base view (number 0) stores all channels. Of a further view only the sensitive channels are stored; the
    others are derived from the base view in feature space (similarity-aware channel augmentation, Yang et al. 2025).
    Views are random renditions, the base view too: measured, one random exact view keeps nearly all of the
    augmentation's benefit and two keep all of it, while a clean base view that is augmented afterwards loses most.

    Args:
        count: stored views a sample.
        channels: which channels of the further views are stored; by default those whose cosine similarity between
            the exact and the derived features is below 0.95.
        metric: how sensitivity is measured: "cosine", "relative" or "energy" (`hoarfrost.sensitivity`).
        base: "random", or "clean": no flip and a centred crop (for comparison; it loses accuracy).
        feature_space: store the base view alone, and augment it anew in feature space in every epoch (for comparison).

    Raises:
        ArgumentError: a count below 1, an unknown base or metric.
    """

    count: int = 2
    channels: Selection = field(default_factory=lambda: Selection(threshold=0.05))
    metric: str = "cosine"
    base: str = "random"
    feature_space: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise ArgumentError(f"views must be a whole number of at least 1, not {self.count!r}")
        if self.base not in ("random", "clean"):
            raise ArgumentError(f'the base view is "random" or "clean", not {self.base!r}')
        if self.metric not in METRICS:
            raise ArgumentError(f"the metric of views is one of {', '.join(map(repr, METRICS))}, not {self.metric!r}")

    @classmethod
    def of(cls, value: int | Views) -> Views:
        """Views from a number of them, or as they are."""
        return value if isinstance(value, Views) else cls(count=value)

    @staticmethod
    def shown(chunk: int, epoch: int, count: int) -> int:
        """The view of `chunk` that `epoch` sees: each in turn, chunks out of step with one another.

        A view is chosen for a whole chunk, so that no byte is read that is not used; chunks are random parts of the
        data set, so an epoch still mixes all views.
        """
        return (chunk + epoch) % count
