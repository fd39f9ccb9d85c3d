"""A model divided at a frozen cut."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..cuts import Cut, Precision, Prefix, Suffix

__all__ = ["Division"]


@dataclass(frozen=True)
class Division:
    """A model divided at a frozen cut.

    Attributes:
        event: the epoch before which it was frozen; the stored views' random decisions belong to it.
        twins: modules of the suffix, each with the module of the model that it stands for.
    """

    cut: Cut
    prefix: Prefix
    suffix: Suffix
    event: int
    twins: tuple[tuple[nn.Module, nn.Module], ...]

    @property
    def precision(self) -> Precision | None:
        """What both parts run in; None: in whatever is around their calls."""
        return self.prefix.precision
