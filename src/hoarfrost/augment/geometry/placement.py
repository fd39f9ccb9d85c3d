"""Where the pixels of a view come from: a projective map into the frame that all views of a sample share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ArgumentError

__all__ = ["Placement", "as_sizes"]

# Maps that differ by less than this are the same: in pixels, a millionth of one at the far end of an image.
_EQUAL = 1e-9
# Translations are multiples of this, so that a resize and its inverse leave no trace of rounding.
_FINEST = 2.0**-20
# Pixels, beyond any image.
_FAR = 1e9
_NOWHERE = ((0.0, 0.0, -1.0), (0.0, 0.0, -1.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Placement:
    """For each of n views: which point of the source frame each point of the view shows.

    Points are (y, x, 1) in pixels, counted from the image's edge: pixel u covers [u, u + 1], so a flip is y -> H - y
    and a resize a pure scale. The source frame is common to all views of a sample, so two placements of one sample say
    how one view's pixels lie in the other. Flips and crops, in any order, compose without any rounding.

    Attributes:
        maps: [n, 3, 3] float64, from the view to the source frame; projective, so a common positive factor does
            not count.
        holes: [n, k, 3, 3] float64 or None: what the views do not show because it was erased, each as the map from the
            view to a frame in which the hole is the unit square. None: no view has any.
        windows: the same for what alone they show, where more than the source's own borders limits it: a view that was
            cropped and then turned has corners that lie in the source, but not in the view.

    Raises:
        ArgumentError: shapes other than these.
    """

    maps: Tensor
    holes: Tensor | None = None
    windows: Tensor | None = None

    def __post_init__(self) -> None:
        if self.maps.ndim != 3 or self.maps.shape[1:] != (3, 3):
            raise ArgumentError(f"Placement: maps must be [n, 3, 3], got {list(self.maps.shape)}")
        for name in ("holes", "windows"):
            given = getattr(self, name)
            if given is not None and (given.ndim != 4 or len(given) != len(self.maps) or given.shape[2:] != (3, 3)):
                raise ArgumentError(f"Placement: {name} must be [{len(self.maps)}, k, 3, 3], got {list(given.shape)}")
        object.__setattr__(self, "maps", self.maps.double())

    @classmethod
    def identity(cls, n: int) -> Placement:
        """n views that show their source as it is."""
        return cls(torch.eye(3, dtype=torch.float64).repeat(n, 1, 1))

    @classmethod
    def shifted(cls, shift: Tensor, sign: Tensor | None = None) -> Placement:
        """Views whose pixel u is pixel `sign * u + shift` of the source.

        Args:
            shift: [n, 2], in pixels; vertical axis first, then horizontal.
            sign: [n, 2], +1, or -1 where an axis is mirrored; None is 1.
        """
        scale = torch.ones_like(shift) if sign is None else sign
        # A mirrored axis exchanges a pixel's edges.
        return cls._scaled(scale.double(), shift.double() + (scale < 0))

    @classmethod
    def window(cls, corner: Tensor, extent: Tensor, size: Tensor) -> Placement:
        """Views of the sizes [n, 2] that show a window of the source, scaled to fit.

        Args:
            corner: [n, 2], the window's top left corner in the source.
            extent: [n, 2], its height and width in pixels of the source.
            size: [n, 2], height and width of the views.
        """
        return cls._scaled(extent.double() / size.double(), corner.double())

    @classmethod
    def erased(cls, corner: Tensor, extent: Tensor) -> Placement:
        """Views that show their source but for a rectangle; an extent of 0 erases nothing. All [n, 2], in pixels."""
        holes = cls._scaled(1 / extent.double(), -corner.double() / extent.double()).maps
        empty = (extent <= 0).any(1)
        holes[empty] = holes.new_tensor(_NOWHERE)
        return cls(cls.identity(len(corner)).maps, None if bool(empty.all()) else holes[:, None])

    @classmethod
    def _scaled(cls, scale: Tensor, offset: Tensor) -> Placement:
        maps = torch.zeros(len(scale), 3, 3, dtype=torch.float64)
        maps[:, 0, 0], maps[:, 1, 1], maps[:, 2, 2] = scale[:, 0], scale[:, 1], 1
        maps[:, :2, 2] = offset
        return cls(maps)

    def __len__(self) -> int:
        return int(self.maps.shape[0])

    def __getitem__(self, rows: Tensor | slice | Sequence[int]) -> Placement:
        """The placements of some rows: a slice, a mask or indices, not a single int."""
        picked = rows if isinstance(rows, (Tensor, slice)) else torch.as_tensor(rows, dtype=torch.int64)
        limits = (None if given is None else given[picked] for given in (self.holes, self.windows))
        return Placement(self.maps[picked], *limits)

    @property
    def sign(self) -> Tensor:
        """[n, 2] int64, +1 or -1 (vertical, horizontal), of views that are shifted and mirrored only.

        Raises:
            ArgumentError: a view is scaled, rotated or otherwise more than shifted and mirrored.
        """
        return self._shifts()[0]

    @property
    def shift(self) -> Tensor:
        """[n, 2] int64: pixel u shows pixel `sign * u + shift` of the source.

        Raises:
            ArgumentError: a view is more than mirrored and shifted by whole pixels.
        """
        return self._shifts()[1]

    def aligned(self) -> tuple[Tensor, Tensor, Tensor]:
        """Which views are mirrored and shifted only: [n] bool; and for these sign and offset, [n, 2] each.

        The offset counts edges, in pixels: y -> sign * y + offset. It need not be whole.
        """
        sign = self.maps.diagonal(dim1=1, dim2=2)[:, :2].sign()
        like = self._scaled(sign, self.maps[:, :2, 2]).maps
        alike = ((self.maps - like).abs() < _EQUAL).flatten(1).all(1)
        return alike, sign, (self.maps[:, :2, 2] / _FINEST).round() * _FINEST

    @property
    def is_separable(self) -> bool:
        """Whether no view mixes the axes: each is scaled, mirrored and shifted along both, but not rotated."""
        off = self.maps.flatten(1)[:, [1, 3, 6, 7]]
        return not bool(off.any()) and bool((self.maps[:, 2, 2] == 1).all())

    @property
    def is_shared(self) -> bool:
        """Whether all views lie alike, and nothing limits them."""
        return not self.is_limited and bool((self.maps == self.maps[:1]).all())

    def then(self, step: Placement) -> Placement:
        """These views rendered once more: `step` says where its output's points lie in these views."""
        limits = (
            _joined(None if own is None else own @ step.maps[:, None], added)
            for own, added in ((self.holes, step.holes), (self.windows, step.windows))
        )
        return Placement(self.maps @ step.maps, *limits)

    def framed(self, sizes: Tensor, before: Tensor) -> Placement:
        """The same views of the sizes [n, 2], before a step that looks beyond their borders and finds nothing there.

        Args:
            before: [n, 2], sizes of the source; views that show all of it are limited by it alone.
        """
        corners = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)
        y, x = (corners[:, axis] * before[:, axis, None, None] for axis in (0, 1))
        down, right = _mapped(_inverse(self.maps), y, x)
        height, width = sizes.double()[:, :, None, None].unbind(1)
        whole = (down > -_EQUAL) & (down < height + _EQUAL) & (right > -_EQUAL) & (right < width + _EQUAL)
        if bool(whole.all()):
            return self
        window = self._scaled(1 / sizes.double(), torch.zeros(len(self), 2)).maps[:, None]
        return Placement(self.maps, self.holes, _joined(self.windows, window))

    def relative_to(self, source: Placement) -> Placement:
        """Where the points of these views lie in the views of `source` (the same samples, row by row)."""
        return Placement(_inverse(source.maps) @ self.maps)

    def rescaled(self, before: Tensor, after: Tensor) -> Placement:
        """The same views when images of the sizes `before` [n, 2] are resized to `after`."""
        return self.then(Placement.window(torch.zeros_like(before), before, after))

    def points(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where points of the views lie in the source, [n, h, w] each; far outside where a map has no such point.

        Args:
            y, x: what broadcasts to [n, h, w].
        """
        return _mapped(self.maps, y, x)

    def hidden(self, y: Tensor, x: Tensor) -> Tensor:
        """Whether points of the views (see `points`) lie in holes or outside windows: [n, h, w] bool."""
        covered = torch.zeros(len(self), y.shape[1], x.shape[2], dtype=torch.bool)
        for limits, outside in ((self.holes, False), (self.windows, True)):
            for limit in () if limits is None else limits.unbind(1):
                down, right = _mapped(limit, y, x)
                covered = covered | ((_in_unit(down) & _in_unit(right)) ^ outside)
        return covered

    @property
    def is_limited(self) -> bool:
        """Whether there are points that a view does not show though they lie in it and in the source."""
        return self.holes is not None or self.windows is not None

    def _shifts(self) -> tuple[Tensor, Tensor]:
        alike, sign, offset = self.aligned()
        shift = offset - (sign < 0).double()
        if not bool(alike.all()) or bool((shift != shift.round()).any()):
            row = int((~alike | (shift != shift.round()).any(1)).nonzero()[0])
            raise ArgumentError(
                f"Placement: view {row} is not only mirrored and shifted by whole pixels, but {self.maps[row].tolist()}"
            )
        return sign.to(torch.int64), shift.to(torch.int64)


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


def _joined(own: Tensor | None, added: Tensor | None) -> Tensor | None:
    given = [limits for limits in (own, added) if limits is not None]
    return torch.cat(given, 1) if given else None


def _inverse(maps: Tensor) -> Tensor:
    """By cofactors, which are whole numbers where the maps are: no rounding for flips and shifts."""
    a, b, c = maps.unbind(1)
    cofactors = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=2)
    return cofactors / (cofactors[:, :, 2] * c).sum(1)[:, None, None]


def _mapped(maps: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    entries = maps[:, :, :, None, None]
    down, right = (entries[:, i, 0] * y + entries[:, i, 1] * x + entries[:, i, 2] for i in (0, 1))
    if torch.equal(maps[:, 2], maps.new_tensor([0, 0, 1]).expand(len(maps), 3)) and bool(maps.isfinite().all()):
        return down, right
    depth = entries[:, 2, 0] * y + entries[:, 2, 1] * x + entries[:, 2, 2]
    # Behind the horizon of a perspective, and where a map is singular, there is nothing to be seen.
    seen = (depth > _EQUAL) & (down.abs() < _FAR) & (right.abs() < _FAR)
    outside = torch.tensor(-_FAR, dtype=torch.float64)
    return torch.where(seen, down / depth, outside), torch.where(seen, right / depth, outside)


def _in_unit(values: Tensor) -> Tensor:
    return (values > -_EQUAL) & (values < 1 - _EQUAL)
