"""Features of one view made from the features of another, without the prefix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import ArgumentError
from .grid import Grid
from .placement import Placement

__all__ = ["Border", "Form", "Grid", "derive", "move_cells"]

Border = Literal["zeros", "replicate"] | Tensor
Form = Literal["cells", "interpolated"]

# A cell that lies so near to the next one, as a share of their distance, is taken to lie there.
_NEAR = 1e-5
_VALUES_TOGETHER = 1 << 18


def derive(
    features: Tensor,
    source: Placement,
    target: Placement,
    grid: Grid,
    border: Border = "zeros",
    form: Form = "cells",
) -> Tensor:
    """Features of the views `target`, approximated from those of other views of the same samples.

    Each cell gets what the source shows where the cell lies: of the nearest cell, or blended from its neighbours. Flips
    become mirrored cells, shifts are divided by the stride, and zooms, rotations and perspectives look their cells up
    in the same way; the channels themselves stay as they are. Cells that the source does not show are filled. For a
    prefix that is the identity this is exact inside what the source shows; for other prefixes `sensitivity` measures
    how far it is off, channel by channel.

    Args:
        features: [n, C, h, w], contiguous or channels_last (the result keeps the memory format), [n, h, w, C] with a
            grid of that layout, or [n, T, D] with a grid of tokens. Any dtype.
        source: where the stored views lie, n rows.
        target: where the wanted views lie, n rows.
        grid: how the cells lie over the image; both views have this grid.
        border: what unknown cells get: "zeros", "replicate" (the nearest cell of the source; 0 for what was erased, or
            cut off earlier, in one of both views), or a tensor: a value for each channel [C], or one sample's features
            [C, h, w], of which each gets the cell in its own place, such as those of an image that is nothing but
            padding (`Pipeline.blank`). Which is best depends on the network and the depth: measure.
        form: "cells" moves whole cells, taken as tiles of the image; "interpolated" blends the neighbours of where a
            cell lies, by the grid's own `pixels` where it has them. Which is better has to be measured, too.

    Returns:
        New features of the same shape, dtype and memory format.

    Raises:
        ArgumentError: shapes that do not fit the grid, numbers of rows that differ, or an unknown border.
    """
    n = features.shape[0]
    if len(source) != n or len(target) != n:
        raise ArgumentError(f"derive: {n} features, but {len(source)} source and {len(target)} target placements")
    return move_cells(features, source, target, grid, grid.feature_size, border, form)


def move_cells(
    features: Tensor,
    source: Placement,
    target: Placement,
    grid: Grid,
    feature_size: tuple[int, int],
    border: Border,
    form: Form = "cells",
) -> Tensor:
    """Features of the size `feature_size`, at the grid's distances, of the views `target` (see `derive`)."""
    if form not in ("cells", "interpolated"):
        raise ArgumentError(f'derive: form must be "cells" or "interpolated", got {form!r}')
    _check(features, grid, feature_size, border)
    move = target.relative_to(source)
    cells = (_nearest if form == "cells" else _neighbours)(move, grid, feature_size)
    hidden = _hidden(source, target, move, grid, cells, form) if source.is_limited or target.is_limited else None
    if cells.is_same(grid, feature_size) and hidden is None:
        return features.clone(memory_format=torch.preserve_format)
    unknown = hidden
    if isinstance(border, Tensor) or border == "zeros":
        outside = ~cells.known(grid).flatten(1)
        unknown = outside if unknown is None else unknown | outside
    if unknown is not None and not bool(unknown.any()):
        unknown = None
    index, weight = cells.picks(grid)
    if grid.layout != "NCHW" or not features.is_contiguous():
        return _rows_moved(features, index, weight, unknown, grid, feature_size, border)
    if weight is None:
        moved = _gathered(features, index[..., 0], feature_size)
        if unknown is not None:
            sample, cell = unknown.to(moved.device).nonzero(as_tuple=True)
            moved.flatten(2)[sample, :, cell] = _filling(border, grid, cell, moved)
        return moved
    # Maps become rows and maps again some samples at a time, so that these copies stay in the processor's cache.
    moved = features.new_empty(*features.shape[:2], *feature_size)
    together = max(1, _VALUES_TOGETHER // max(1, features[0].numel())) if len(features) else 1
    for first in range(0, len(features), together):
        some = slice(first, first + together)
        limits = unknown[some] if unknown is not None else None
        moved[some] = _rows_moved(features[some], index[some], weight[some], limits, grid, feature_size, border)
    return moved


@dataclass(frozen=True)
class _Cells:
    """Where each wanted cell lies among the given ones, along both axes: what broadcasts to [n, h', w'].

    Attributes:
        row, column: int64, the cell in front of it, inside the grid or outside.
        down, right: the shares of the cell behind that one, from 0 to below 1; None where all are 0.
    """

    row: Tensor
    column: Tensor
    down: Tensor | None = None
    right: Tensor | None = None

    def is_same(self, grid: Grid, feature_size: tuple[int, int]) -> bool:
        """Whether every cell is simply that of the same place."""
        if self.down is not None or self.right is not None or feature_size != grid.feature_size:
            return False
        rows, columns = (torch.arange(length) for length in feature_size)
        return bool((self.row == rows[:, None]).all()) and bool((self.column == columns).all())

    def known(self, grid: Grid) -> Tensor:
        """[n, h', w'] bool: the nearest cell of each is in the grid."""
        inside = []
        for front, share, length in zip(
            (self.row, self.column), (self.down, self.right), grid.feature_size, strict=True
        ):
            nearest = front if share is None else front + (share > 0.5)
            inside.append((nearest >= 0) & (nearest < length))
        return inside[0] & inside[1]

    def picks(self, grid: Grid) -> tuple[Tensor, Tensor | None]:
        """[n, h' * w', k] int64: cells of the map, 1, 2 or 4 for each; and their weights, None for a single one."""
        height, width = grid.feature_size
        shape = (self.row.shape[0], self.row.shape[1], self.column.shape[2])
        index, weight = [], []
        for row, vertical in _corners(self.row, self.down, height):
            for column, horizontal in _corners(self.column, self.right, width):
                index.append((row * width + column).expand(shape))
                weight.append((vertical * horizontal).expand(shape))
        if len(index) == 1:
            return index[0].flatten(1)[..., None], None
        return torch.stack(index, -1).flatten(1, 2), torch.stack(weight, -1).flatten(1, 2)


def _corners(front: Tensor, share: Tensor | None, length: int) -> list[tuple[Tensor, Tensor]]:
    """Along one axis: the one or two cells that each is made of, and their weights."""
    first = front.clamp(0, length - 1)
    if share is None:
        return [(first, torch.ones((), dtype=torch.float64))]
    # A cell without weight is not looked at: it could hold an infinity.
    behind = torch.where(share > 0, (front + 1).clamp(0, length - 1), first)
    return [(first, 1 - share), (behind, share)]


def _centres(first: float, step: float, length: int) -> Tensor:
    """[length] float64: the cells' centres along an axis, counted from the image's edge."""
    return first + 0.5 + step * torch.arange(length, dtype=torch.float64)


def _positions(move: Placement, axes: tuple[tuple[float, float], ...], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where wanted cells lie among the given ones, in cells: what broadcasts to [n, h', w'] each."""
    down, right = (_centres(*axes[axis], size[axis]) for axis in (0, 1))
    y, x, nothing = down[None, :, None], right[None, None, :], torch.zeros(1, 1, 1, dtype=torch.float64)
    if move.is_separable:
        rows, columns = move.points(y, nothing)[0], move.points(nothing, x)[1]
    else:
        rows, columns = move.points(y, x)
    return tuple((at - first - 0.5) / step for at, (first, step) in zip((rows, columns), axes, strict=True))  # type: ignore[return-value]


def _nearest(move: Placement, grid: Grid, feature_size: tuple[int, int]) -> _Cells:
    """The tile that each wanted tile's centre falls into."""
    aligned, sign, offset = move.aligned()
    steps = [_mirrored(sign[:, axis], offset[:, axis], grid, axis, feature_size[axis]) for axis in (0, 1)]
    row, column = steps[0][:, :, None], steps[1][:, None, :]
    if bool(aligned.all()):
        return _Cells(row, column)
    rows, columns = _positions(move, (grid.tiles_of(0), grid.tiles_of(1)), feature_size)
    own = aligned[:, None, None]
    # A shift by half a cell is rounded as a whole, whatever else is in the batch.
    return _Cells(torch.where(own, row, _rounded(rows)), torch.where(own, column, _rounded(columns)))


def _rounded(positions: Tensor) -> Tensor:
    return (positions + 0.5 + _NEAR).floor().to(torch.int64)


def _mirrored(sign: Tensor, offset: Tensor, grid: Grid, axis: int, length: int) -> Tensor:
    """[n, length]: the cells that mirrored and shifted ones show, along one axis."""
    # A mirrored axis exchanges edges, not centres: one cell less after the rounding.
    steps = (offset * grid.feature_size[axis] / grid.image_size[axis]).round() - (sign < 0).to(torch.float64)
    return (sign[:, None] * torch.arange(length) + steps[:, None]).to(torch.int64)


def _neighbours(move: Placement, grid: Grid, feature_size: tuple[int, int]) -> _Cells:
    rows, columns = _positions(move, (grid.cells_of(0), grid.cells_of(1)), feature_size)
    (row, down), (column, right) = _split(rows), _split(columns)
    return _Cells(row, column, down, right)


def _split(positions: Tensor) -> tuple[Tensor, Tensor | None]:
    front = (positions + _NEAR).floor()
    share = positions - front
    share = torch.where(share < _NEAR, 0.0, share)
    return front.to(torch.int64), share if bool(share.any()) else None


def _hidden(
    source: Placement, target: Placement, move: Placement, grid: Grid, cells: _Cells, form: Form
) -> Tensor | None:
    """[n, h' * w'] bool: cells that one of both views alone does not show; None where there are none."""
    height, width = cells.row.shape[1], cells.column.shape[2]
    axes = grid.cells_of(0), grid.cells_of(1)
    y, x = _centres(*axes[0], height)[None, :, None], _centres(*axes[1], width)[None, None, :]
    covered = target.hidden(y, x)
    if source.is_limited and form == "cells":
        # The cell that is taken counts, wherever in it the wanted centre lies.
        taken = (
            (at.clamp(0, length - 1) * step + first + 0.5)
            for at, (first, step), length in zip((cells.row, cells.column), axes, grid.feature_size, strict=True)
        )
        covered = covered ^ source.hidden(*taken)
    elif source.is_limited:
        covered = covered ^ source.hidden(*move.points(y, x))
    return covered.flatten(1) if bool(covered.any()) else None


def _gathered(features: Tensor, index: Tensor, feature_size: tuple[int, int]) -> Tensor:
    """Cells of contiguous maps [n, C, h, w], picked by index [n, P]."""
    n, channels = features.shape[:2]
    index = index.to(features.device)[:, None, :].expand(n, channels, -1)
    return features.flatten(2).gather(2, index).view(n, channels, *feature_size)


def _rows_moved(
    features: Tensor,
    index: Tensor,
    weight: Tensor | None,
    unknown: Tensor | None,
    grid: Grid,
    feature_size: tuple[int, int],
    border: Border,
) -> Tensor:
    """Cells as rows of their channels, which are copied or blended whole."""
    n, prefix = len(features), grid.prefix_tokens
    rows, device = grid.rows(features), features.device
    index, weight, unknown = _behind(prefix, index, weight, unknown)
    starts = torch.arange(n)[:, None, None] * (prefix + grid.feature_size[0] * grid.feature_size[1])
    index = (index + starts).flatten(0, 1).to(device)
    if weight is None:
        cells = rows.index_select(0, index[:, 0])
    else:
        blended = rows if rows.is_floating_point() else rows.float()
        weight = weight.flatten(0, 1).to(blended.dtype).to(device)
        cells = functional.embedding_bag(index, blended, per_sample_weights=weight, mode="sum")
        cells = cells if rows.is_floating_point() else cells.round().to(rows.dtype)
    if unknown is not None:
        which = unknown.flatten().nonzero()[:, 0].to(device)
        cells[which] = _filling(border, grid, which % unknown.shape[1], cells)
    return grid.features(cells, n, feature_size)


def _filling(border: Border, grid: Grid, cells: Tensor, like: Tensor) -> Tensor:
    """What the unknown among a sample's cells [k] get: [k, C], or what broadcasts to it."""
    if not isinstance(border, Tensor):
        return like.new_zeros(1)
    border = border.to(like)
    return border if border.ndim == 1 else grid.rows(border[None])[cells]


def _behind(
    prefix: int, index: Tensor, weight: Tensor | None, unknown: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The same picks with prefix tokens in front, which stay themselves."""
    if not prefix:
        return index, weight, unknown
    n, _, count = index.shape
    index = torch.cat([torch.arange(prefix)[None, :, None].expand(n, -1, count), index + prefix], 1)
    if weight is not None:
        whole = torch.zeros(n, prefix, count, dtype=weight.dtype)
        whole[:, :, 0] = 1
        weight = torch.cat([whole, weight.expand(n, -1, -1)], 1)
    if unknown is not None:
        unknown = torch.cat([torch.zeros(n, prefix, dtype=torch.bool), unknown], 1)
    return index, weight, unknown


def _check(features: Tensor, grid: Grid, feature_size: tuple[int, int], border: Border) -> None:
    if isinstance(border, Tensor):
        channels, size = features.shape[1 if grid.layout == "NCHW" else -1] if features.ndim > 1 else 0, feature_size
        sample = {
            "NCHW": (channels, *size),
            "NHWC": (*size, channels),
            "tokens": (grid.prefix_tokens + size[0] * size[1], channels),
        }[grid.layout]
        if border.shape not in ((channels,), sample):
            raise ArgumentError(
                f"derive: border must hold one value a channel, [{channels}], "
                f"or one sample's features, {list(sample)}, got {list(border.shape)}"
            )
    elif border not in ("zeros", "replicate"):
        raise ArgumentError(f'derive: border must be "zeros", "replicate" or a tensor, got {border!r}')
    grid.check(features)
