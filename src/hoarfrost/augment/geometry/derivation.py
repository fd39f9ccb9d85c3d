"""Features of one view made from the features of another, without the prefix."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import ArgumentError
from .cells import Form, hidden_cells, nearest_cells, neighbouring_cells
from .grid import Grid
from .placement import Placement

__all__ = ["Border", "derive", "move_cells"]

Border = Literal["zeros", "replicate"] | Tensor

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
    plain = form == "cells" and grid.layout == "NCHW" and features.is_contiguous() and len(features) > 0
    if plain and isinstance(border, str) and border == "zeros" and source.is_shared and target.is_shared:
        moved = _all_moved_alike(features, source[:1], target[:1], grid, feature_size)
        if moved is not None:
            return moved
    move = target.relative_to(source)
    cells = (nearest_cells if form == "cells" else neighbouring_cells)(move, grid, feature_size)
    hidden = hidden_cells(source, target, move, grid, cells, form) if source.is_limited or target.is_limited else None
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


def _all_moved_alike(
    features: Tensor, source: Placement, target: Placement, grid: Grid, feature_size: tuple[int, int]
) -> Tensor | None:
    """Whole cells of maps, all samples mirrored and shifted as the one of `source` and `target`, zeros around them;
    None where it is another move. The same bits as of each by itself, without looking cells up one by one."""
    move = target.relative_to(source)
    if not bool(move.aligned()[0].all()):
        return None
    cells = nearest_cells(move, grid, feature_size)
    moved = features.new_zeros(*features.shape[:2], *feature_size)
    rows, columns = cells.row[0, :, 0].tolist(), cells.column[0, 0].tolist()
    kept, shown, mirrored = [], [], []
    for axis, picked, length in ((2, rows, grid.feature_size[0]), (3, columns, grid.feature_size[1])):
        known = [place for place, cell in enumerate(picked) if 0 <= cell < length]
        if not known:
            return moved
        first, last = sorted((picked[known[0]], picked[known[-1]]))
        kept.append(slice(known[0], known[-1] + 1))
        shown.append(slice(first, last + 1))
        mirrored += [axis] * (picked[known[-1]] < picked[known[0]])
    piece = features[:, :, shown[0], shown[1]]
    moved[:, :, kept[0], kept[1]] = piece.flip(mirrored) if mirrored else piece
    return moved


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
