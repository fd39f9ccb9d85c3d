"""A model divided at a frozen cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..cuts import Cut, Precision, Prefix, Suffix

__all__ = ["Division"]


@dataclass(frozen=True)
class Division:
    """A model divided at a frozen cut.

    Attributes:
        event: the epoch before which it was frozen; the stored views' random decisions belong to it.
    """

    cut: Cut
    prefix: Prefix
    suffix: Suffix
    event: int

    @property
    def precision(self) -> Precision | None:
        """What both parts run in; None: in whatever is around their calls."""
        return self.prefix.precision

    def shadow(self) -> Division:
        """With a suffix for measuring, which leaves nothing behind on the user's modules."""
        return replace(self, suffix=self.suffix.shadow())
