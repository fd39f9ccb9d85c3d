"""Whether a cache was made from what is there now, and if not, in which way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..cache import Fingerprint, told_difference
from .fingerprint import CHOICES

__all__ = ["Comparison", "compare"]

SAME_WAY, OTHER_WAY = 1e-5, 1e-2
"""How far sums of the prefix's output may differ, as a share of a value: where a device may choose other algorithms,
and where numerics differ."""


@dataclass(frozen=True)
class Comparison:
    """A cache held against what is there now.

    Attributes:
        foreign: names of the choices that differ: another cache was meant.
        stale: by name, in which way it is stale, in words.
        said: likewise what differs and does no harm.
    """

    foreign: tuple[str, ...]
    stale: dict[str, str]
    said: dict[str, str]

    @property
    def trained(self) -> bool:
        """Whether it holds a prefix of other weights, and differs in nothing else: that of another training."""
        return "weights" in self.stale and set(self.stale) <= {"weights", "output"}

    @property
    def told(self) -> str:
        return "; ".join(self.stale.values())


def compare(mine: Fingerprint, stored: Fingerprint, *, targets_of_today: bool = False) -> Comparison:
    """What differs.

    Args:
        targets_of_today: whether batches get the data set's own targets, whatever is stored.
    """
    differing = mine.differences(stored)
    told = {name: told_difference(name, mine.fields, stored.fields) for name in differing if name not in CHOICES}
    said = {}
    if targets_of_today and "targets" in told:
        said["targets"] = f"{told.pop('targets')}; those of today are trained on"
    numerics = told_difference("numerics", mine.noted, stored.noted) if _differ("numerics", mine, stored) else ""
    if numerics:
        said["numerics"] = f"{numerics}: features may differ in their last bits from those that are computed here"
    output = "" if told else _output(mine.noted, stored.noted, numerics != "")
    if output:
        told["output"] = output
    return Comparison(tuple(name for name in differing if name in CHOICES), told, said)


def _differ(name: str, mine: Fingerprint, stored: Fingerprint) -> bool:
    return bool(mine.noted.get(name) != stored.noted.get(name))


def _output(mine: Mapping[str, Any], stored: Mapping[str, Any], other_numerics: bool) -> str:
    """How the prefix's output differs, in words; "" where it is the same as far as that can be asked."""
    here, there = mine.get("output", {}), stored.get("output", {})
    if here.get("hash") == there.get("hash"):
        return ""
    exactly = not other_numerics and mine.get("numerics", {}).get("device") == "cpu"
    far = _distance(here.get("sums", []), there.get("sums", []))
    if not exactly and far <= (OTHER_WAY if other_numerics else SAME_WAY):
        return ""
    return f"'output' of the prefix on the example images is another, by a share of {far:.2g} of a value"


def _distance(here: list[list[float | None]], there: list[list[float | None]]) -> float:
    """The largest difference of sums, as a share of the root mean square; infinite where they cannot be compared."""
    if len(here) != len(there):
        return float("inf")
    far = 0.0
    for mine, its in zip(here, there, strict=True):
        scale = abs(its[0] or 0.0) or 1e-30
        for a, b in zip(mine, its, strict=False):
            if (a is None) != (b is None):
                return float("inf")
            far = max(far, abs((a or 0.0) - (b or 0.0)) / scale)
    return far
