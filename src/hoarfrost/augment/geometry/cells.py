"""Which cells of one view show what the cells of another view do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .grid import Grid
from .placement import Placement

__all__ = ["Cells", "Form", "hidden_cells", "nearest_cells", "neighbouring_cells"]

Form = Literal["cells", "interpolated"]

# A cell that lies so near to the next one, as a share of their distance, is taken to lie there.
_NEAR = 1e-5


@dataclass(frozen=True)
class Cells:
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


def nearest_cells(move: Placement, grid: Grid, feature_size: tuple[int, int]) -> Cells:
    """The tile that each wanted tile's centre falls into."""
    aligned, sign, offset = move.aligned()
    steps = [_mirrored(sign[:, axis], offset[:, axis], grid, axis, feature_size[axis]) for axis in (0, 1)]
    row, column = steps[0][:, :, None], steps[1][:, None, :]
    if bool(aligned.all()):
        return Cells(row, column)
    rows, columns = _positions(move, (grid.tiles_of(0), grid.tiles_of(1)), feature_size)
    own = aligned[:, None, None]
    # A shift by half a cell is rounded as a whole, whatever else is in the batch.
    return Cells(torch.where(own, row, _rounded(rows)), torch.where(own, column, _rounded(columns)))


def _rounded(positions: Tensor) -> Tensor:
    return (positions + 0.5 + _NEAR).floor().to(torch.int64)


def _mirrored(sign: Tensor, offset: Tensor, grid: Grid, axis: int, length: int) -> Tensor:
    """[n, length]: the cells that mirrored and shifted ones show, along one axis."""
    # A mirrored axis exchanges edges, not centres: one cell less after the rounding.
    steps = (offset * grid.feature_size[axis] / grid.image_size[axis]).round() - (sign < 0).to(torch.float64)
    return (sign[:, None] * torch.arange(length) + steps[:, None]).to(torch.int64)


def neighbouring_cells(move: Placement, grid: Grid, feature_size: tuple[int, int]) -> Cells:
    """The cells that each wanted cell's centre lies between."""
    rows, columns = _positions(move, (grid.cells_of(0), grid.cells_of(1)), feature_size)
    (row, down), (column, right) = _split(rows), _split(columns)
    return Cells(row, column, down, right)


def _split(positions: Tensor) -> tuple[Tensor, Tensor | None]:
    front = (positions + _NEAR).floor()
    share = positions - front
    share = torch.where(share < _NEAR, 0.0, share)
    return front.to(torch.int64), share if bool(share.any()) else None


def hidden_cells(
    source: Placement, target: Placement, move: Placement, grid: Grid, cells: Cells, form: Form
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
