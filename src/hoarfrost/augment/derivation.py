"""Features of one view made from the features of another, without the prefix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hoarfrost.augment.placement import Placement
from hoarfrost.errors import ArgumentError

__all__ = ["Border", "Form", "Grid", "derive", "move_cells"]

Border = Literal["zeros", "replicate"] | Tensor
Form = Literal["cells", "interpolated"]


@dataclass(frozen=True)
class Grid:
    """How a feature map lies over the image.

    Attributes:
        image_size: (height, width) of the images that go into the prefix, in pixels.
        feature_size: (height, width) of its feature map, in cells.
        layout: "NCHW" for [N, C, h, w], "NHWC" for [N, h, w, C], or "tokens" for [N, prefix_tokens + h * w, D].
        prefix_tokens: tokens in front of the map that have no place in the image (a class token); copied as
            they are.
        pixels: where the cells lie, for each axis (first, step): the centre of cell i is at pixel first + step * i, the
            centre of the first pixel being 0. None: the cells tile the image evenly. A convolution with stride 2 and
            padding 1 has (0, 2) where tiles would have (0.5, 2), so that a flip moves its cells by half a cell.

    Raises:
        ArgumentError: a size below 1, an unknown layout, or prefix tokens in a layout that has none.
    """

    image_size: tuple[int, int]
    feature_size: tuple[int, int]
    layout: str = "NCHW"
    prefix_tokens: int = 0
    pixels: tuple[tuple[float, float], tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "feature_size"):
            value = tuple(int(side) for side in getattr(self, name))
            if len(value) != 2 or min(value) < 1:
                raise ArgumentError(f"Grid: {name} must be (height, width), both at least 1, got {value}")
            object.__setattr__(self, name, value)
        if self.layout not in ("NCHW", "NHWC", "tokens"):
            raise ArgumentError(f'Grid: layout must be "NCHW", "NHWC" or "tokens", got {self.layout!r}')
        if self.prefix_tokens < 0 or (self.prefix_tokens and self.layout != "tokens"):
            raise ArgumentError(
                f"Grid: prefix_tokens={self.prefix_tokens} with layout {self.layout!r}; "
                "only tokens have them, 0 or more"
            )

    def cells_of(self, axis: int) -> tuple[float, float]:
        """Where the cells lie along an axis: the pixel of the first cell's centre, and pixels from one to the next."""
        if self.pixels is not None:
            return self.pixels[axis]
        stride = self.stride[axis]
        return (stride - 1) / 2, stride

    @property
    def stride(self) -> tuple[float, float]:
        """Pixels a cell, (vertical, horizontal): image size over feature size."""
        return (self.image_size[0] / self.feature_size[0], self.image_size[1] / self.feature_size[1])


def derive(
    features: Tensor,
    source: Placement,
    target: Placement,
    grid: Grid,
    border: Border = "zeros",
    form: Form = "cells",
) -> Tensor:
    """Features of the views `target`, approximated from those of other views of the same samples.

    Flips become mirrored cells, shifts are divided by the stride and rounded to the nearest cell or interpolated
    between cells, and cells that the source does not show are filled. For a prefix that is the identity this is exact
    inside what the source shows; for other prefixes `sensitivity` measures how far it is off, channel by channel.

    Args:
        features: [n, C, h, w], contiguous or channels_last (the result keeps the memory format), [n, h, w, C] with a
            grid of that layout, or [n, T, D] with a grid of tokens. Any dtype.
        source: where the stored views lie, n rows.
        target: where the wanted views lie, n rows.
        grid: how the cells lie over the image; both views have this grid.
        border: what unknown cells get: "zeros", "replicate" (the nearest known cell), or a tensor [C], such
            as the features of an image that is nothing but padding (`Pipeline.blank`). Which is best depends
            on the network and the depth: measure.
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
    move = target.relative_to(source)
    if form == "interpolated":
        return _between_cells(features, move, grid, border)
    if form != "cells":
        raise ArgumentError(f'derive: form must be "cells" or "interpolated", got {form!r}')
    return move_cells(features, move, grid, grid.feature_size, border)


def _between_cells(features: Tensor, move: Placement, grid: Grid, border: Border) -> Tensor:
    """Each cell blended from the two nearest along each axis; an axis after the other, the border last."""
    _check(features, grid, border)
    (rows, down), (columns, right) = (_positions(move.sign[:, a], move.shift[:, a], grid, a) for a in (0, 1))
    height, width = grid.feature_size
    moved: Tensor | None = None
    for row, vertical in ((rows, 1 - down), (rows + 1, down)):
        for column, horizontal in ((columns, 1 - right), (columns + 1, right)):
            weight = (vertical[:, :, None] * horizontal[:, None, :]).flatten(1)
            if not bool(weight.any()):
                continue
            index = (row.clamp(0, height - 1)[:, :, None] * width + column.clamp(0, width - 1)[:, None, :]).flatten(1)
            part = _picked(features, index.to(features.device), grid)
            part = part * _as_cells(weight.to(part), grid)
            moved = part if moved is None else moved.add_(part)
    if moved is None:
        moved = features.clone(memory_format=torch.preserve_format)
    if grid.prefix_tokens:
        moved[:, : grid.prefix_tokens] = features[:, : grid.prefix_tokens]
    if isinstance(border, Tensor) or border == "zeros":
        # A cell is known as far as the nearest cell of the source is one.
        known_rows, known_columns = _inside(rows, down, height), _inside(columns, right, width)
        unknown = ~(known_rows[:, :, None] & known_columns[:, None, :]).flatten(1)
        if bool(unknown.any()):
            mask = _as_cells(unknown.to(features.device), grid)
            if grid.prefix_tokens:
                mask = mask.clone()
                mask[:, : grid.prefix_tokens] = False
            channels_last = grid.layout != "NCHW"
            _fill(moved, mask, border, (-1,) if channels_last else (-1, 1, 1))
    return moved


def _positions(sign: Tensor, shift: Tensor, grid: Grid, axis: int) -> tuple[Tensor, Tensor]:
    """Along one axis: the cell in front of where each cell lies in the source, and the share of the one behind it."""
    first, step = grid.cells_of(axis)
    pixels = first + step * torch.arange(grid.feature_size[axis], dtype=torch.float64)
    there = (sign[:, None] * pixels + shift[:, None].double() - first) / step
    front = (there + 1e-6).floor()
    share = (there - front).clamp(0, 1)
    return front.to(torch.int64), torch.where(share < 1e-5, torch.zeros_like(share), share)


def _inside(front: Tensor, share: Tensor, length: int) -> Tensor:
    nearest = front + (share > 0.5).to(torch.int64)
    return (nearest >= 0) & (nearest < length)


def _picked(features: Tensor, index: Tensor, grid: Grid) -> Tensor:
    """Features with the cells [n, h * w] of the map picked by index; a copy, in the same layout."""
    if grid.layout == "tokens":
        return _move_tokens(features, index, None, grid.prefix_tokens, "zeros")
    if grid.layout == "NHWC":
        return _move_tokens(features.flatten(1, 2), index, None, 0, "zeros").view_as(features)
    n, channels = features.shape[:2]
    if features.is_contiguous(memory_format=torch.channels_last) and not features.is_contiguous():
        cells = _move_tokens(features.permute(0, 2, 3, 1).flatten(1, 2), index, None, 0, "zeros")
        return cells.view(n, *features.shape[2:], channels).permute(0, 3, 1, 2)
    return features.flatten(2).gather(2, index[:, None, :].expand(n, channels, -1)).view_as(features)


def _as_cells(values: Tensor, grid: Grid) -> Tensor:
    """[n, h * w] beside features of the grid's layout; tokens in front of the grid get 0."""
    if grid.layout == "tokens":
        front = values.new_zeros(len(values), grid.prefix_tokens)
        return torch.cat([front, values], 1)[:, :, None]
    cells = values.view(len(values), *grid.feature_size)
    return cells[:, None] if grid.layout == "NCHW" else cells[..., None]


def move_cells(features: Tensor, move: Placement, grid: Grid, feature_size: tuple[int, int], border: Border) -> Tensor:
    """Features of the size `feature_size`, lying in the given ones as `move` says (see `derive`)."""
    _check(features, grid, border)
    if feature_size == grid.feature_size and bool((move.sign == 1).all()) and not bool(move.shift.any()):
        return features.clone(memory_format=torch.preserve_format)
    rows, rows_known = _cells(move.sign[:, 0], move.shift[:, 0], grid, 0, feature_size[0])
    columns, columns_known = _cells(move.sign[:, 1], move.shift[:, 1], grid, 1, feature_size[1])
    index = (rows[:, :, None] * grid.feature_size[1] + columns[:, None, :]).flatten(1).to(features.device)
    unknown: Tensor | None = None
    if isinstance(border, Tensor) or border == "zeros":
        unknown = ~(rows_known[:, :, None] & columns_known[:, None, :]).flatten(1)
        unknown = unknown.to(features.device) if bool(unknown.any()) else None
    if grid.layout == "tokens":
        return _move_tokens(features, index, unknown, grid.prefix_tokens, border)
    if grid.layout == "NHWC":
        cells = _move_tokens(features.flatten(1, 2), index, unknown, 0, border)
        return cells.view(len(features), *feature_size, -1)
    n, channels = features.shape[:2]
    if features.is_contiguous(memory_format=torch.channels_last) and not features.is_contiguous():
        cells = _move_tokens(features.permute(0, 2, 3, 1).flatten(1, 2), index, unknown, 0, border)
        return cells.view(n, *feature_size, channels).permute(0, 3, 1, 2)
    moved = features.flatten(2).gather(2, index[:, None, :].expand(n, channels, -1))
    if unknown is not None:
        _fill(moved, unknown[:, None, :], border, (-1, 1))
    return moved.view(n, channels, *feature_size)


def _cells(sign: Tensor, shift: Tensor, grid: Grid, axis: int, length: int) -> tuple[Tensor, Tensor]:
    """Along one axis: the source cell that each of `length` cells shows, and whether it is in the grid."""
    size = grid.feature_size[axis]
    # A mirrored axis exchanges edges, not centres: one pixel more before scaling, one cell less after it.
    mirrored = (sign < 0).to(torch.float64)
    steps = ((shift.double() + mirrored) * size / grid.image_size[axis]).round() - mirrored
    cells = sign[:, None] * torch.arange(length, device=sign.device) + steps.to(torch.int64)[:, None]
    return cells.clamp(0, size - 1), (cells >= 0) & (cells < size)


def _move_tokens(tokens: Tensor, index: Tensor, unknown: Tensor | None, prefix_tokens: int, border: Border) -> Tensor:
    """[n, T, D] with the tokens behind the prefix picked by index [n, P]: whole rows are copied."""
    n, count, width = tokens.shape
    starts = torch.arange(n, device=tokens.device)[:, None] * count
    index, rows = index + prefix_tokens, tokens.reshape(n * count, width)
    if prefix_tokens:
        index = torch.cat([torch.arange(prefix_tokens, device=tokens.device).expand(n, -1), index], dim=1)
    moved = rows.index_select(0, (starts + index).flatten()).view(n, -1, width)
    if unknown is not None:
        _fill(moved[:, prefix_tokens:], unknown[:, :, None], border, (-1,))
    return moved


def _fill(moved: Tensor, unknown: Tensor, border: Border, shape: tuple[int, ...]) -> None:
    """Write the border into the unknown cells; shape is that of one value a channel beside `moved`."""
    if isinstance(border, Tensor):
        moved.copy_(torch.where(unknown, border.to(moved).view(shape), moved))
    else:
        moved.masked_fill_(unknown, 0)


def _check(features: Tensor, grid: Grid, border: Border) -> None:
    channels = features.shape[1 if grid.layout == "NCHW" else -1] if features.ndim > 1 else 0
    if isinstance(border, Tensor):
        if border.shape != (channels,):
            raise ArgumentError(f"derive: border must hold one value a channel, [{channels}], got {list(border.shape)}")
    elif border not in ("zeros", "replicate"):
        raise ArgumentError(f'derive: border must be "zeros", "replicate" or a tensor [C], got {border!r}')
    height, width = grid.feature_size
    if grid.layout == "NCHW":
        fits = features.ndim == 4 and tuple(features.shape[2:]) == (height, width)
        wanted = f"[N, C, {height}, {width}]"
    elif grid.layout == "NHWC":
        fits = features.ndim == 4 and tuple(features.shape[1:3]) == (height, width)
        wanted = f"[N, {height}, {width}, C]"
    else:
        fits = features.ndim == 3 and features.shape[1] == grid.prefix_tokens + height * width
        wanted = f"[N, {grid.prefix_tokens + height * width}, D]"
    if not fits:
        raise ArgumentError(
            f"derive: features must be {wanted} for this grid, got {list(features.shape)}; supported are "
            'feature maps (layouts "NCHW" and "NHWC") and tokens of a map (layout "tokens")'
        )
