"""A model divided at a frozen cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..cuts import Cut, Precision, Prefix, Suffix, misshapen
from .settler import Settled

__all__ = ["Division"]


@dataclass(frozen=True)
class Division:
    """A model divided at a frozen cut.

    Attributes:
        event: the epoch before which it was frozen; the stored views' random decisions belong to it.
        resized: suffixes for features of inputs of other sizes.
        settled: what the front froze as; None where there was nothing to choose.
    """

    cut: Cut
    prefix: Prefix
    suffix: Suffix
    event: int
    resized: tuple[Suffix, ...] = ()
    settled: Settled | None = None

    def suffix_of(self, rows: Sequence[Any]) -> Suffix | None:
        """The suffix that takes these tensors; None where none does."""
        return next((suffix for suffix in (self.suffix, *self.resized) if _fits(rows, suffix.cut)), None)

    def release(self) -> None:
        """None of its suffixes answers calls of the model's modules any more."""
        for suffix in (self.suffix, *self.resized):
            suffix.release()

    @property
    def precision(self) -> Precision | None:
        """What both parts run in; None: in whatever is around their calls."""
        return self.prefix.precision

    def shadow(self) -> Division:
        """With a suffix for measuring, which leaves nothing behind on the user's modules."""
        return replace(self, suffix=self.suffix.shadow(), resized=())


def _fits(rows: Sequence[Any], cut: Cut) -> bool:
    """Whether rows are what crosses; that of a number for each sample may come as a row of one."""
    return len(rows) == len(cut.rows) and all(
        isinstance(row, Tensor) and not misshapen(row.shape[1:] if crossing.shape else row.shape[2:], crossing)
        for row, crossing in zip(rows, cut.rows, strict=True)
    )
