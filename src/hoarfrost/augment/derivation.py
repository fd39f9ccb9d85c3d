"""Features of one view made from the features of another, without the prefix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hoarfrost.augment.placement import Placement
from hoarfrost.errors import ArgumentError

__all__ = ["Border", "Grid", "derive", "move_cells"]

Border = Literal["zeros", "replicate"] | Tensor


@dataclass(frozen=True)
class Grid:
    """How a feature map lies over the image.

    Attributes:
        image_size: (height, width) of the images that go into the prefix, in pixels.
        feature_size: (height, width) of its feature map, in cells.
        layout: "NCHW" for [N, C, h, w], "NHWC" for [N, h, w, C], or "tokens" for [N, prefix_tokens + h * w, D].
        prefix_tokens: tokens in front of the map that have no place in the image (a class token); copied as
            they are.

    Raises:
        ArgumentError: a size below 1, an unknown layout, or prefix tokens in a layout that has none.
    """

    image_size: tuple[int, int]
    feature_size: tuple[int, int]
    layout: str = "NCHW"
    prefix_tokens: int = 0

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

    @property
    def stride(self) -> tuple[float, float]:
        """Pixels a cell, (vertical, horizontal): image size over feature size."""
        return (self.image_size[0] / self.feature_size[0], self.image_size[1] / self.feature_size[1])


def derive(features: Tensor, source: Placement, target: Placement, grid: Grid, border: Border = "zeros") -> Tensor:
    """Features of the views `target`, approximated from those of other views of the same samples.

    Flips become mirrored cells, shifts are divided by the stride and rounded to the nearest cell, and cells
    that the source does not show are filled. For a prefix that is the identity this is exact inside what the
    source shows; for other prefixes `sensitivity` measures how far it is off, channel by channel.

    Args:
        features: [n, C, h, w], contiguous or channels_last (the result keeps the memory format), [n, h, w, C] with a
            grid of that layout, or [n, T, D] with a grid of tokens. Any dtype.
        source: where the stored views lie, n rows.
        target: where the wanted views lie, n rows.
        grid: how the cells lie over the image; both views have this grid.
        border: what unknown cells get: "zeros", "replicate" (the nearest known cell), or a tensor [C], such
            as the features of an image that is nothing but padding (`Pipeline.blank`). Which is best depends
            on the network and the depth: measure.

    Returns:
        New features of the same shape, dtype and memory format.

    Raises:
        ArgumentError: shapes that do not fit the grid, numbers of rows that differ, or an unknown border.
    """
    n = features.shape[0]
    if len(source) != n or len(target) != n:
        raise ArgumentError(f"derive: {n} features, but {len(source)} source and {len(target)} target placements")
    return move_cells(features, target.relative_to(source), grid, grid.feature_size, border)


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
