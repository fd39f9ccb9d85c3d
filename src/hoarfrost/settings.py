"""Which renditions of a sample are stored, how much of each, which one an epoch sees, and when they are drawn anew."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor

from .errors import ArgumentError
from .seeds import mix

__all__ = ["WAYS", "OverBudget", "Selection", "Views"]

METRICS = ("cosine", "relative", "energy", "harm")
RECORDING = ("ahead", "shown")
REFRESHING = ("rolling", "together")


@dataclass(frozen=True)
class Views:
    """What is stored of each sample, and how an epoch draws from it.

    The base view (number 0) stores all channels. Of a further view only the sensitive channels are stored; the
    others are derived from the base view in feature space (similarity-aware channel augmentation, Yang et al. 2025).
    Views are random renditions, the base view too: measured, one random exact view per sample keeps nearly all of the
    augmentation's benefit and two keep all of it, while a clean base view that is augmented afterwards loses most.

    Args:
        count: stored views a sample.
        channels: which channels of the further views are stored; by default those whose cosine similarity between
            the exact and the derived features is below 0.95.
        metric: how sensitivity is measured: "cosine", "relative", "energy" or "harm" (`hoarfrost.sensitivity`).
        bits: of the further views' stored channels, where they may be coarser than the base view; None: as that is.
        residual: store of each stored channel what it differs from the derived one by, where that takes fewer bytes at
            the same error: it does for flips at deep cuts, and seldom for shifts.
        base: "random", or "clean": no flip and a centred crop (for comparison; it loses accuracy).
        derived: share of the chunks, drawn in each epoch, of which a stored view is shown moved to a fresh rendition in
            feature space, from 0 to 1. With one view and 1.0 all augmentation happens in feature space.
        refresh_every: epochs after which a stored view is drawn anew, by the prefix, when it is next shown; None keeps
            it. A dial from cheapest to exact: each view costs one pass of the prefix every so many epochs.
        refresh: "rolling": a share of the chunks in each epoch, so that all epochs cost alike; "together": all at once.
        record: "ahead": before the first epoch that reads them; "shown": while the first epochs show them, each
            epoch running the prefix on what is not stored yet, so that no pass is made that no epoch sees.

    Raises:
        ArgumentError: a count or a number of epochs below 1, a share out of range, an unknown word.
    """

    count: int = 2
    channels: Selection = field(default_factory=lambda: Selection(threshold=0.05))
    metric: str = "cosine"
    bits: int | None = None
    residual: bool = False
    base: str = "random"
    derived: float = 0.0
    refresh_every: int | None = None
    refresh: str = "rolling"
    record: str = "ahead"

    def __post_init__(self) -> None:
        if not _is_count(self.count):
            raise ArgumentError(f"views must be a whole number of at least 1, not {self.count!r}")
        if self.bits is not None and not (_is_count(self.bits) and self.bits <= 8):
            raise ArgumentError(f"the bits of further views are a whole number from 1 to 8, or None, not {self.bits!r}")
        if self.base not in ("random", "clean"):
            raise ArgumentError(f'the base view is "random" or "clean", not {self.base!r}')
        if self.metric not in METRICS:
            raise ArgumentError(f"the metric of views is one of {', '.join(map(repr, METRICS))}, not {self.metric!r}")
        if not 0 <= self.derived <= 1:
            raise ArgumentError(f"the derived share of views is a number from 0 to 1, not {self.derived!r}")
        if self.refresh_every is not None and not _is_count(self.refresh_every):
            raise ArgumentError(
                f"refresh_every is a whole number of epochs, at least 1, or None, not {self.refresh_every!r}"
            )
        if self.refresh not in REFRESHING:
            raise ArgumentError(f'views are refreshed "rolling" or "together", not {self.refresh!r}')
        if self.record not in RECORDING:
            raise ArgumentError(f'views are recorded "ahead" or as they are "shown", not {self.record!r}')

    @classmethod
    def of(cls, value: int | Views) -> Views:
        """Views from a number of them, or as they are."""
        return value if isinstance(value, Views) else cls(count=value)

    @property
    def feature_space_only(self) -> bool:
        """Whether all augmentation happens in feature space: then the base view alone is stored."""
        return self.derived == 1

    @staticmethod
    def shown(chunk: int, epoch: int, count: int) -> int:
        """The view of `chunk` that `epoch` sees: each in turn, chunks out of step with one another.

        A view is chosen for a whole chunk, so that no byte is read that is not used; chunks are random parts of the
        data set, so an epoch still mixes all views.
        """
        return (chunk + epoch) % count

    def moved(self, chunk: int, epoch: int) -> bool:
        """Whether `epoch` sees `chunk` moved to a fresh rendition in feature space."""
        return mix(chunk, epoch) % 2**32 < self.derived * 2**32

    def edition(self, chunk: int, epoch: int, event: int) -> int:
        """How often the views of `chunk`, first drawn at the freeze before epoch `event`, are drawn anew by `epoch`."""
        if self.refresh_every is None:
            return 0
        ahead = chunk % self.refresh_every if self.refresh == "rolling" else 0
        return (epoch - event + ahead) // self.refresh_every


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass(frozen=True)
class Selection:
    """Which channels to store exactly, by their sensitivity; exactly one of the three is given.

    Attributes:
        share: the most sensitive share of the channels, from 0 to 1; rounded up to whole channels.
        threshold: the channels with a sensitivity above it.
        budget_bytes: those that fit, in the order of their sensitivity per byte.

    Raises:
        ArgumentError: none or several are given, or one is out of range.
    """

    share: float | None = None
    threshold: float | None = None
    budget_bytes: int | None = None

    def __post_init__(self) -> None:
        given = {
            name: value for name in ("share", "threshold", "budget_bytes") if (value := getattr(self, name)) is not None
        }
        if len(given) != 1:
            raise ArgumentError(
                f"Selection: give exactly one of share, threshold and budget_bytes, got {given or 'none of them'}"
            )
        if self.share is not None and not 0 <= self.share <= 1:
            raise ArgumentError(f"Selection: share must be from 0 to 1, got {self.share!r}")
        if self.threshold is not None and math.isnan(self.threshold):
            raise ArgumentError("Selection: threshold must be a number, got nan")
        if self.budget_bytes is not None and self.budget_bytes < 0:
            raise ArgumentError(f"Selection: budget_bytes must be 0 or more, got {self.budget_bytes!r}")

    def choose(self, sensitivity: Tensor, bytes_per_channel: float | Sequence[float] | Tensor | None = None) -> Tensor:
        """The channels to store: sorted int64 indices.

        Args:
            sensitivity: [C], from `sensitivity`.
            bytes_per_channel: one number for all channels or [C], in bytes; for budget_bytes alone.

        Raises:
            ArgumentError: a budget without bytes_per_channel, or another number of them than channels.
        """
        if sensitivity.ndim != 1 or bool(sensitivity.isnan().any()):
            raise ArgumentError(f"Selection.choose: sensitivity must be [C] without NaN, got {sensitivity}")
        order = sensitivity.argsort(descending=True, stable=True)
        if self.threshold is not None:
            return (sensitivity > self.threshold).nonzero()[:, 0]
        if self.share is not None:
            count = math.ceil(self.share * len(order) - 1e-9)
        else:
            return self._fitting(sensitivity, bytes_per_channel)
        return order[:count].sort().values

    def _fitting(self, sensitivity: Tensor, bytes_per_channel: float | Sequence[float] | Tensor | None) -> Tensor:
        if bytes_per_channel is None:
            raise ArgumentError("Selection.choose: budget_bytes needs bytes_per_channel to know what fits")
        sizes = torch.as_tensor(bytes_per_channel, dtype=torch.float64)
        if sizes.ndim and sizes.shape != sensitivity.shape:
            raise ArgumentError(
                f"Selection.choose: bytes_per_channel must be one number or {len(sensitivity)}, got {list(sizes.shape)}"
            )
        sizes = sizes.expand(len(sensitivity))
        chosen, left = [], float(self.budget_bytes or 0)
        for channel in (sensitivity.double() / sizes.clamp(min=1e-9)).argsort(descending=True, stable=True).tolist():
            if float(sizes[channel]) <= left and float(sensitivity[channel]) > 0:
                chosen.append(channel)
                left -= float(sizes[channel])
        return torch.tensor(sorted(chosen), dtype=torch.int64)


WAYS = ("views", "rung", "cut", "recompute")


@dataclass(frozen=True)
class OverBudget:
    """The ways to do with less room, in the order in which they are tried.

    `"views"`: fewer stored views. `"rung"`: a stronger rung of the ladder, beyond the tolerance. `"cut"`: a deeper
    recommended cut with smaller features. `"recompute"`: no cache; it always fits, and is also what is left at the end.
    """

    ways: tuple[str, ...] = ("views", "recompute")

    @classmethod
    def of(cls, value: str | Sequence[str]) -> OverBudget:
        """From a sequence of ways, or from their names with commas between them.

        Raises:
            ArgumentError: an unknown way, one that is named twice, or one behind "recompute".
        """
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
