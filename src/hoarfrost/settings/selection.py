"""Which channels of a further view are stored as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Selection"]

LARGEST = 1e18


@dataclass(frozen=True)
class Selection:
    """Which channels to store exactly, by their sensitivity; one of the three is given, or none.

    With none, how many is measured at the freeze: as few as keep the model's outputs, the others derived, within
    the tolerance that the codec keeps to as well.

    Attributes:
        share: the most sensitive share of the channels, from 0 to 1; rounded to whole channels.
        threshold: the channels with a sensitivity above it.
        budget_bytes: those that fit, in the order of their sensitivity per byte.

    Raises:
        ArgumentError: several are given, or one is out of range.
    """

    share: float | None = None
    threshold: float | None = None
    budget_bytes: int | None = None

    def __post_init__(self) -> None:
        given = {
            name: value for name in ("share", "threshold", "budget_bytes") if (value := getattr(self, name)) is not None
        }
        if len(given) > 1:
            raise ArgumentError(
                "Selection: give one of share, threshold and budget_bytes, or none, and how many channels are stored "
                f"is measured; got {given}"
            )
        if self.share is not None and not 0 <= self.share <= 1:
            raise ArgumentError(f"Selection: share must be from 0 to 1, got {self.share!r}")
        if self.threshold is not None and not abs(self.threshold) <= LARGEST and not abs(self.threshold) == math.inf:
            raise ArgumentError(f"Selection: threshold must be a number, got {str(self.threshold)[:40]}")
        if self.budget_bytes is not None and not 0 <= self.budget_bytes <= LARGEST:
            raise ArgumentError(f"Selection: budget_bytes must be 0 or more, got {self.budget_bytes!r}")

    @property
    def measured(self) -> bool:
        """Whether nothing was given."""
        return self == Selection()

    def choose(self, sensitivity: Tensor, bytes_per_channel: float | Sequence[float] | Tensor | None = None) -> Tensor:
        """The channels to store: sorted int64 indices [n].

        Args:
            sensitivity: [C], from `sensitivity`.
            bytes_per_channel: one number for all channels or [C], in bytes; for budget_bytes alone.

        Raises:
            ArgumentError: nothing was given; a budget without bytes_per_channel, or another number of them than
                channels.
        """
        if self.measured:
            raise ArgumentError("Selection.choose: give share, threshold or budget_bytes; else a freeze has to measure")
        if sensitivity.ndim != 1 or bool(sensitivity.isnan().any()):
            raise ArgumentError(f"Selection.choose: sensitivity must be [C] without NaN, got {sensitivity}")
        order = sensitivity.argsort(descending=True, stable=True)
        if self.threshold is not None:
            return (sensitivity > self.threshold).nonzero()[:, 0]
        if self.share is not None:
            count = round(self.share * len(order))
        else:
            return self._fitting(sensitivity, bytes_per_channel)
        return order[:count].sort().values

    def _fitting(self, sensitivity: Tensor, bytes_per_channel: float | Sequence[float] | Tensor | None) -> Tensor:
        if bytes_per_channel is None:
            raise ArgumentError("Selection.choose: budget_bytes needs bytes_per_channel to know what fits")
        sizes = _per_channel(bytes_per_channel, len(sensitivity))
        values = sensitivity.tolist()
        chosen, left = [], float(self.budget_bytes or 0)
        for channel in sorted(range(len(values)), key=lambda channel: -values[channel] / max(sizes[channel], 1e-9)):
            if sizes[channel] <= left and values[channel] > 0:
                chosen.append(channel)
                left -= sizes[channel]
        return sensitivity.new_tensor(sorted(chosen)).long()


def _per_channel(told: float | Sequence[float] | Tensor, channels: int) -> list[float]:
    one = isinstance(told, int | float) or getattr(told, "ndim", 1) == 0
    sizes = [float(told)] * channels if one else [float(size) for size in told]  # type: ignore[arg-type, union-attr]
    if len(sizes) != channels:
        raise ArgumentError(f"Selection.choose: bytes_per_channel must be one number or {channels}, got [{len(sizes)}]")
    return sizes
