"""What is given up where the disk budget has no room: views, precision, the depth asked for, or the cache itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from ..errors import ArgumentError

__all__ = ["WAYS", "OverBudget"]

WAYS = ("views", "rung", "cut", "recompute")


@dataclass(frozen=True)
class OverBudget:
    """The ways to do with less room, in the order in which they are tried.

    `"views"`: fewer stored views. `"rung"`: a stronger rung of the ladder, beyond the tolerance. `"cut"`: a deeper
    recommended cut with smaller features. `"recompute"`: no cache; it always fits, and is also what is left at the end.
    """

    ways: tuple[str, ...] = ("views", "recompute")

    @classmethod
    def of(cls, value: str | Sequence[str] | OverBudget) -> OverBudget:
        """From a sequence of ways, or from their names with commas between them.

        Raises:
            ArgumentError: an unknown way, one that is named twice, or one behind "recompute".
        """
        if isinstance(value, OverBudget):
            return value
        if not isinstance(value, str | Sequence):
            raise ArgumentError(f"over_budget names ways, {', '.join(map(repr, WAYS))}, not {value!r}")
        ways = tuple(way.strip() for way in value.split(",")) if isinstance(value, str) else tuple(value)
        known = ", ".join(map(repr, WAYS))
        for way in ways:
            if way not in WAYS:
                raise ArgumentError(f"over_budget is an order of {known}; there is no {way!r}")
        if len(set(ways)) < len(ways):
            raise ArgumentError(f"over_budget names a way twice: {', '.join(ways)}")
        if "recompute" in ways[:-1]:
            raise ArgumentError(
                f"over_budget {', '.join(ways)}: recomputing always fits, so nothing that stands behind it is tried"
            )
        return cls(ways)

    def plain(self) -> str:
        """As it is typed."""
        return ",".join(self.ways)

    @property
    def deepens(self) -> bool:
        return "cut" in self.ways

    @property
    def before_deepening(self) -> OverBudget:
        """What is tried before a deeper cut is looked for."""
        return OverBudget(self.ways[: self.ways.index("cut")]) if self.deepens else self

    def offers(self, views: int, rungs: int) -> Iterator[tuple[int, int]]:
        """How many views to store, and by how many rungs to go up: from nothing given up to all of it.

        A way is used up before the one behind it is touched.

        >>> list(OverBudget(("views", "rung")).offers(views=2, rungs=2))
        [(2, 0), (1, 0), (2, 1), (1, 1)]
        """
        choices = {"views": range(views, 0, -1), "rung": range(rungs)}
        named = [way for way in self.ways if way in choices]
        for chosen in product(*(choices[way] for way in reversed(named))):
            given = dict(zip(reversed(named), chosen, strict=True))
            yield given.get("views", views), given.get("rung", 0)
