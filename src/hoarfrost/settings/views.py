"""Which renditions of a sample are stored, how much of each, which one an epoch sees, and when they are drawn anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import ArgumentError
from ..plain_fields import check_plain_fields
from ..seeds import mix
from .checks import check_word, is_count
from .selection import Selection

__all__ = ["METRICS", "Views"]

METRICS = ("cosine", "ssim", "psnr", "relative", "energy", "harm")
AUTO = "auto"
RECORDING = ("ahead", "shown")
REFRESHING = ("rolling", "together")
FURTHER = ("random", "mirrored")
BORDERS = ("auto", "zeros", "replicate", "blank")
GRAINS = ("sample", "chunk")


@dataclass(frozen=True)
class Views:
    """What is stored of each sample, and how an epoch draws from it.

    The base view (number 0) stores all channels. Of a further view only the sensitive channels are stored; the
    others are derived from the base view in feature space (similarity-aware channel augmentation, Yang et al. 2025).
    Views are random renditions, the base view too: measured, one random exact view per sample keeps nearly all of the
    augmentation's benefit and two keep all of it, while a clean base view that is augmented afterwards loses most.

    Args:
        count: stored views a sample; "auto": two, or up to eight, one for every three epochs by which the freeze will
            outlast the training before it, but no more than are computed in the time that is trained on them.
        channels: which channels of the further views are stored; by default as many of the most sensitive as it takes
            to keep the outputs within the tolerance, measured at the freeze.
        metric: how sensitivity is measured: "cosine", "relative", "energy", "harm", or by "ssim" or "psnr" as in
            Yang et al. 2025 (`hoarfrost.sensitivity`).
        bits: of the further views' stored channels, where they may be coarser than the base view; None: as that is.
        residual: store of each stored channel what it differs from the derived one by, where that takes fewer bytes at
            the same error: it does for flips at deep cuts, and seldom for shifts.
        base: "random", or "clean": no flip and a centred crop (for comparison; it loses accuracy).
        derived: share of the chunks, drawn in each epoch, of which a stored view is shown moved to a fresh rendition in
            feature space, from 0 to 1. With 1.0 all augmentation happens in feature space.
        refresh_every: epochs after which a stored view is drawn anew, by the prefix, when it is next shown; None keeps
            it. A dial from cheapest to exact: each view costs one pass of the prefix every so many epochs.
        refresh: "rolling": a share of the chunks in each epoch, so that all epochs cost alike; "together": all at once.
        record: "ahead": before the first epoch that reads them; "shown": while the first epochs show them, each
            epoch running the prefix on what is not stored yet, so that no pass is made that no epoch sees.
        further: what the further views are: "random" renditions, or "mirrored": one, the base view flipped the other
            way. What is moved in feature space is then moved from the one or the other, as it is to be mirrored or not.
        border: what moved features show beyond an image's borders: "zeros", "replicate" or "blank", as in
            `hoarfrost.augment.derive`, whole cells moved; "auto": what is measured to harm least, cells or between.
        grain: whether each "sample" is moved to a rendition of its own, or all of a "chunk" to one.

    Raises:
        ArgumentError: a count or a number of epochs below 1, a share out of range, an unknown word.
    """

    count: int | str = AUTO
    channels: Selection = field(default_factory=Selection)
    metric: str = "cosine"
    bits: int | None = None
    residual: bool = False
    base: str = "random"
    derived: float = 0.0
    refresh_every: int | None = None
    refresh: str = "rolling"
    record: str = "ahead"
    further: str = "random"
    border: str = "auto"
    grain: str = "sample"

    def __post_init__(self) -> None:
        if self.count != AUTO and not is_count(self.count):
            raise ArgumentError(f'views must be a whole number of at least 1, or "auto", not {self.count!r}')
        if self.bits is not None and not (is_count(self.bits) and self.bits <= 8):
            raise ArgumentError(f"the bits of further views are a whole number from 1 to 8, or None, not {self.bits!r}")
        if self.base not in ("random", "clean"):
            raise ArgumentError(f'the base view is "random" or "clean", not {self.base!r}')
        if self.metric not in METRICS:
            raise ArgumentError(f"the metric of views is one of {', '.join(map(repr, METRICS))}, not {self.metric!r}")
        check_plain_fields(self, "views: ")
        if not 0 <= self.derived <= 1:
            raise ArgumentError(f"the derived share of views is a number from 0 to 1, not {self.derived!r}")
        if self.refresh_every is not None and not is_count(self.refresh_every):
            raise ArgumentError(
                f"refresh_every is a whole number of epochs, at least 1, or None, not {self.refresh_every!r}"
            )
        if self.refresh not in REFRESHING:
            raise ArgumentError(f'views are refreshed "rolling" or "together", not {self.refresh!r}')
        if self.record not in RECORDING:
            raise ArgumentError(f'views are recorded "ahead" or as they are "shown", not {self.record!r}')
        check_word("what further views are", self.further, FURTHER)
        check_word("the border of views", self.border, BORDERS)
        check_word("the grain of views", self.grain, GRAINS)
        if self.further == "mirrored" and self.count == AUTO:
            object.__setattr__(self, "count", 2)
        if self.further == "mirrored" and self.count not in (1, 2):
            raise ArgumentError(f"there is one mirror image of the base view: views are 1 or 2, not {self.count!r}")

    @classmethod
    def of(cls, value: int | str | Views | Mapping[str, Any]) -> Views:
        """Views from a number of them (in words too: "4"), from `plain()`, or as they are."""
        if isinstance(value, Mapping):
            channels = value.get("channels")
            try:
                return cls(**{**value, **({} if channels is None else {"channels": Selection(**channels)})})
            except TypeError as error:
                raise ArgumentError(f"views are told by the fields of hoarfrost.Views: {error}") from error
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        return value if isinstance(value, Views) else cls(count=value)

    def plain(self) -> int | str | dict[str, Any]:
        """As JSON takes it: the number alone, where the rest is as ever."""
        return self.count if self == Views(self.count) else asdict(self)

    @property
    def asked(self) -> int | None:
        """How many were asked for; None: that is left to be told."""
        return self.count if isinstance(self.count, int) else None

    @property
    def feature_space_only(self) -> bool:
        """Whether all augmentation happens in feature space, from the base view alone: then that alone is stored."""
        return self.derived == 1 and (self.further == "random" or self.channels.share == 0)

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
