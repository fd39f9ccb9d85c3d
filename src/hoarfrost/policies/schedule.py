"""Freezing at designated points (Yang et al. 2025, arXiv 2508.15033)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from ..cuts import Cut, candidate_cuts, find_cut
from ..errors import NoCutError, PolicyError
from .state import TrainState

__all__ = ["Schedule"]

# When, as a share of the epochs, and how much of the forward FLOPs should then lie in front of the cut.
# The paper designates points without publishing them. Ours are cautious: what freezing costs in accuracy is the
# front's own unfinished learning, and a quarter of the epochs was too early in what we measured (docs: benchmarks).
EVEN_POINTS = ((1 / 3, 1 / 3), (0.6, 2 / 3))


class Schedule:
    """Freeze up to a named cut before a named epoch begins.

    ```python
    Schedule({5: "layer1", 10: "layer2"})   # before epoch 5, everything up to layer1's end
    Schedule({0: "features.4"})             # from the start: fine-tuning
    Schedule()                              # an even schedule over the run's epochs
    ```

    Args:
        points: epochs, counted from 0, to cuts: a name, or a depth. None: evenly, after a third of the
            epochs the cut nearest to a third of the forward FLOPs, after three fifths the one nearest to two
            thirds, among the recommended cuts.

    Raises:
        PolicyError: an epoch is no whole number from 0 on; a later point freezes less than an earlier
            one; no points are given and the number of epochs is not known.
        UnknownCutError: a cut of that name does not exist (raised when the model is known).
    """

    def __init__(self, points: Mapping[int, str | int] | None = None) -> None:
        for epoch in points or {}:
            if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
                raise PolicyError(f"a schedule maps epochs, counted from 0, to cuts; {epoch!r} is no epoch")
        self.points = None if points is None else dict(sorted(points.items()))
        self._depths: tuple[tuple[tuple[Cut, ...], int | None], dict[int, int]] | None = None

    def __repr__(self) -> str:
        return f"Schedule({'' if self.points is None else self.points})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self.points == other.points

    def __hash__(self) -> int:
        return hash(repr(self))

    def __call__(self, state: TrainState, /) -> int:
        depths = self.depths(state.cuts, state.epochs)
        return max([depth for epoch, depth in depths.items() if epoch <= state.epoch], default=0)

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        """Raise now what would be raised at the first freeze, and say what will never come."""
        never = [epoch for epoch in self.depths(cuts, epochs) if epochs is not None and epoch >= epochs]
        if never:
            warnings.warn(
                f"{self!r}: epochs are counted from 0, so that with {epochs} nothing is frozen before epoch {never[0]}",
                stacklevel=2,
            )

    def next_change(self, state: TrainState) -> int | None:
        """The next epoch that begins with a deeper freeze than the one before it."""
        depths = self.depths(state.cuts, state.epochs)
        now = self(state)
        return min([epoch for epoch, depth in depths.items() if epoch > state.epoch and depth > now], default=None)

    def depths(self, cuts: tuple[Cut, ...], epochs: int | None) -> dict[int, int]:
        """Epochs to depths, ascending in both."""
        if self._depths is None or self._depths[0] != (cuts, epochs):
            self._depths = (cuts, epochs), self._resolve(cuts, epochs)
        return self._depths[1]

    def _resolve(self, cuts: tuple[Cut, ...], epochs: int | None) -> dict[int, int]:
        if self.points is None:
            return even_depths(cuts, epochs)
        depths = {epoch: depth_of(point, cuts) for epoch, point in self.points.items()}
        deepest, at = 0, 0
        for epoch, depth in depths.items():
            if depth < deepest:
                raise PolicyError(
                    f"{self!r} asks to thaw: {self.points[at]!r} (depth {deepest}) is frozen before epoch {at}, "
                    f"and {self.points[epoch]!r} (depth {depth}) lies in front of it; later points go deeper"
                )
            deepest, at = depth, epoch
        return depths


def depth_of(point: str | int, cuts: Sequence[Cut]) -> int:
    """The depth that freezes up to `point`, a cut's name or already a depth."""
    if isinstance(point, str):
        return find_cut(cuts, point).index + 1
    if isinstance(point, bool) or not isinstance(point, int):
        raise PolicyError(f"a schedule names a cut, or a depth as a whole number, not {point!r}")
    if not 0 <= point <= len(cuts):
        raise PolicyError(f"depth {point} does not exist: the model has {len(cuts)} cuts, depths go from 0 to that")
    return point


def even_depths(cuts: Sequence[Cut], epochs: int | None) -> dict[int, int]:
    """The even schedule: shares of the epochs to the recommended cuts nearest to shares of the FLOPs."""
    if epochs is None:
        raise PolicyError(
            "an even schedule needs to know the number of epochs: give Freezer(..., epochs=...) or name the points, "
            'Schedule({5: "layer1"})'
        )
    if not cuts:
        raise NoCutError("the model has no place where it can be divided, so there is nothing to schedule")
    depths: dict[int, int] = {}
    for when, share in EVEN_POINTS:
        nearest = depth_at_share(cuts, share)
        epoch = round(when * epochs)
        if 0 < epoch < epochs:
            depths[epoch] = max(nearest, *depths.values(), 0) if depths else nearest
    return depths


def depth_at_share(cuts: Sequence[Cut], share: float) -> int:
    """The depth of the recommended cut in front of which the nearest to `share` of the forward FLOPs lies."""
    return min(candidate_cuts(cuts), key=lambda cut: abs(flops_share(cut) - share)).index + 1


def flops_share(cut: Cut) -> float:
    """The share of one forward pass that lies in front of the cut, from 0 to 1."""
    total = cut.prefix_flops + cut.suffix_flops
    return cut.prefix_flops / total if total else 0.0
