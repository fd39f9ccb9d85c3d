"""What storing and reading cost against recomputing, and the choice that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..cuts import Cut

__all__ = ["Decision", "automatic_views", "decide", "passes_of"]


SHOWN = 3
"""Epochs that see a view, at least, for it to be worth its pass of the prefix."""
USUAL, MOST = 2, 8
"""Views, where their number is left to be told."""


@dataclass(frozen=True)
class Decision:
    """How to go on behind a freeze.

    Attributes:
        choice: "cache" or "recompute".
        views: how many views to store (0 when recomputing).
        reason: one line for people, with the measured seconds.
        break_even: epochs from which on storing is cheaper; None if it never is.
    """

    choice: str
    views: int
    reason: str
    break_even: float | None


def automatic_views(epochs_left: int | None, epochs_before: int, suffix_passes: float) -> tuple[int, int]:
    """How many views to store, where that is left to be told: most, and how many of them though few epochs see each.

    Two; or, up to eight, one for every three epochs by which the freeze will outlast the training before it, as what
    trains on stored views alone learns them by heart. But no more than are computed in the time that it trains on them.

    Args:
        epochs_left: as in `decide`.
        epochs_before: the freeze.
        suffix_passes: what training the suffix for an epoch costs, in passes of the prefix.
    """
    if epochs_left is None:
        return USUAL, 1
    payable = max(1, int(min(MOST, epochs_left * suffix_passes)))
    least = min(payable, max(1, -(-(epochs_left - epochs_before) // SHOWN)))
    return max(least, min(USUAL, payable)), least


def passes_of(cut: Cut) -> float:
    """What training the suffix for an epoch costs, in passes of the prefix, by FLOPs; going back takes twice what going
    forward takes."""
    return 3 * cut.suffix_flops / max(1, cut.prefix_flops)


def decide(
    *,
    epochs_left: int | None,
    views: int,
    recompute_seconds: float,
    read_seconds: float,
    view_seconds: float,
    refresh_every: int | None = None,
    mode: str = "auto",
    least_views: int = 1,
) -> Decision:
    """Read or recompute: the cheaper over the epochs for which this depth will last.

    Storing costs `views * view_seconds` once and `read_seconds` in each epoch, and what is drawn anew; recomputing
    costs `recompute_seconds` in each. Fewer views are stored when fewer epochs are left: left to choose, each view that
    is stored will be seen three times or more.

    Args:
        epochs_left: epochs at this depth; None if unknown, then storing is taken if it ever pays.
        views: the views asked for.
        recompute_seconds, read_seconds: in front of the suffix, for one epoch.
        view_seconds: to compute, encode and write one view of all samples.
        refresh_every: epochs after which each view is computed anew; None if it never is.
        mode: "auto", or "cache" where the user forces it.
        least_views: so many are stored though fewer than three epochs see each.
    """

    def epoch_seconds(count: int) -> float:
        # A view is computed anew when it is shown, hence at most once for each time that it is shown.
        renewed = 0.0 if refresh_every is None else min(1.0, count / refresh_every)
        return read_seconds + renewed * view_seconds

    def pays_after(count: int) -> float:
        gain = recompute_seconds - epoch_seconds(count)
        return count * view_seconds / gain if gain > 0 else math.inf

    views = max(1, views if epochs_left is None else min(views, epochs_left))
    if mode == "auto" and epochs_left is not None:
        # One view keeps nearly all of the benefit of several (docs: views): a second one has to be seen, too.
        views = max(1, min(views, max(least_views, epochs_left // SHOWN)))
        views = next((count for count in range(views, 0, -1) if pays_after(count) < epochs_left), views)
    break_even = pays_after(views)
    reading = "read" if refresh_every is None else "read and refresh"
    measured = f"an epoch costs {epoch_seconds(views):.2f} s to {reading}, {recompute_seconds:.2f} s to recompute"
    build = f"{views} view{'s cost' if views > 1 else ' costs'} {views * view_seconds:.1f} s to store"
    known = break_even if math.isfinite(break_even) else None
    if mode == "cache":
        return Decision("cache", views, f"stored, as asked: {measured}; {build}", known)
    if known is None:
        return Decision("recompute", 0, f"recomputed: {measured}", None)
    left = "an unknown number of epochs" if epochs_left is None else f"{epochs_left} epoch{'s' * (epochs_left != 1)}"
    tail = f"{measured}; {build}, even after {break_even:.1f} epochs, {left} to go at this depth"
    if epochs_left is not None and epochs_left <= break_even:
        return Decision("recompute", 0, f"recomputed: {tail}", known)
    return Decision("cache", views, f"stored: {tail}", known)
