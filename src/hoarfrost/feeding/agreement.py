"""What the ranks of a training must not find out each for itself: whether features are stale, how they are had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..distributed import Ranks
from ..freezing import Division
from .feeder import Feeder
from .front_guard import FrontGuard
from .front_layers import FrontLayers

__all__ = ["Seen", "decided_by_one", "seen_by_all"]


@dataclass(frozen=True)
class Seen:
    """What is not as it was when features were stored.

    Attributes:
        unlike: how samples differ; or "".
        unfrozen: parameters of the front of which somebody wants gradients.
        layers, changed: its layers and tensors that are others, by name.
    """

    unlike: str
    unfrozen: Sequence[str] = ()
    layers: Sequence[str] = ()
    changed: Sequence[str] = ()

    def joined(self, other: Seen) -> Seen:
        """With what another rank has seen, where this one has seen nothing of the kind."""
        return Seen(
            self.unlike or other.unlike,
            self.unfrozen or other.unfrozen,
            self.layers or other.layers,
            self.changed or other.changed,
        )


def seen_by_all(ranks: Ranks, feeder: Feeder, guard: FrontGuard, layers: FrontLayers, step: int, exactly: bool) -> Seen:
    """What one rank sees at an epoch's begin all are told.

    Within an epoch each sees for itself what its loop does to the front, as the others do; samples wait for the
    next one.

    Args:
        exactly: look at all values of the front.
    """
    seen = Seen("" if step and not ranks.alone else feeder.unlike())
    if not seen.unlike:
        seen = Seen("", guard.unfrozen())
    if not seen.unlike and not seen.unfrozen:
        seen = Seen("", (), layers.changed(exactly=exactly), guard.changed(exactly=exactly))
    if step or ranks.alone:
        return seen
    found = seen
    for told in ranks.gather("what has changed", asdict(seen)):
        found = found.joined(Seen(**told))
    if found.unlike and not seen.unlike:
        feeder.distrust()
    return found


def decided_by_one(
    ranks: Ranks,
    feeder: Feeder,
    decide: Callable[[Callable[[int], Division]], None],
    freeze: Callable[[int], Division],
) -> None:
    """The rank that leads measures and decides; the others freeze further when it does, and take what it has decided.

    Args:
        decide: measures, on that rank; is given what freezes further.
        freeze: up to a depth.
    """

    def told(word: dict[str, Any]) -> dict[str, Any]:
        return ranks.lead("how features are had", lambda: word)

    def deepen(depth: int) -> Division:
        told({"depth": depth})
        return freeze(depth)

    if ranks.alone:
        decide(freeze)
    elif ranks.leads:
        decide(deepen)
        told({"decided": feeder.told()})
    else:
        while "depth" in (word := told({})):
            freeze(word["depth"])
        feeder.take(word["decided"])
