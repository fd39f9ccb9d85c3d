"""Where the pixels of a view come from: a signed shift of the pixel grid along each axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hoarfrost.errors import ArgumentError

__all__ = ["Placement", "as_sizes"]


@dataclass(frozen=True, eq=False)
class Placement:
    """For each of n views: output pixel u shows pixel `sign * u + shift` of the source frame, on both axes.

    The source frame is common to all views of a sample, so two placements of one sample say how one view's
    pixels lie in the other. Flips and crops, in any order, compose to such a map exactly.

    Attributes:
        sign: [n, 2] int64, +1 or -1; vertical axis first, then horizontal.
        shift: [n, 2] int64, in pixels of the source frame.

    Raises:
        ArgumentError: the two are not of one shape [n, 2].
    """

    sign: Tensor
    shift: Tensor

    def __post_init__(self) -> None:
        if self.sign.ndim != 2 or self.sign.shape[1] != 2 or self.sign.shape != self.shift.shape:
            raise ArgumentError(
                "Placement: sign and shift must both have the shape [n, 2] (vertical, horizontal), got "
                f"{list(self.sign.shape)} and {list(self.shift.shape)}"
            )

    @classmethod
    def identity(cls, n: int) -> Placement:
        """n views that show their source as it is."""
        return cls(torch.ones(n, 2, dtype=torch.int64), torch.zeros(n, 2, dtype=torch.int64))

    def __len__(self) -> int:
        return int(self.sign.shape[0])

    def __getitem__(self, rows: Tensor | slice | Sequence[int]) -> Placement:
        """The placements of some rows: a slice, a mask or indices, not a single int."""
        picked = rows if isinstance(rows, (Tensor, slice)) else torch.as_tensor(rows, dtype=torch.int64)
        return Placement(self.sign[picked], self.shift[picked])

    def then(self, step: Placement) -> Placement:
        """These views rendered once more: `step` says where its output pixels lie in these views."""
        return Placement(self.sign * step.sign, self.sign * step.shift + self.shift)

    def relative_to(self, source: Placement) -> Placement:
        """Where the pixels of these views lie in the views of `source` (the same samples, row by row)."""
        return Placement(source.sign * self.sign, source.sign * (self.shift - source.shift))

    def rescaled(self, before: Tensor, after: Tensor) -> Placement:
        """The same views when images of the sizes `before` [n, 2] are resized to `after`; rounded."""
        ratio = after.double() / before.double()
        # A mirrored axis carries its half pixel along: v = -u + b has its centre at (b + 1) / 2 edges.
        mirrored = (self.sign < 0).double()
        shift = ((self.shift.double() + mirrored) * ratio - mirrored).round().to(torch.int64)
        return Placement(self.sign, shift)


def as_sizes(image_size: Sequence[int] | Tensor, n: int) -> Tensor:
    """[n, 2] int64 (height, width), from one size for all images or from one for each.

    Raises:
        ArgumentError: neither (height, width) nor [n, 2].
    """
    sizes = torch.as_tensor(image_size, dtype=torch.int64)
    if sizes.shape == (2,):
        return sizes.expand(n, 2)
    if sizes.shape == (n, 2):
        return sizes
    raise ArgumentError(
        f"image_size must be (height, width), or one such pair for each of the {n} samples, got {image_size!r}"
    )
