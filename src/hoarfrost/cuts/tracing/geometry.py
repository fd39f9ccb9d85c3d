"""Where features lie on the image: followed from operator to operator.

Convolutions and poolings say by their strides and paddings how their output's grid lies on their input's; permutations
say where the channels go; all else hands both on. What this cannot follow (a reshape that merges cells) is read from
the shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

__all__ = ["Geometry", "Mark", "Tracker", "geometry_of", "layout_of"]

Pair = tuple[float, float]

CHANNELS_LAST = frozenset({"mm", "addmm", "bmm", "baddbmm", "linear", "embedding", "matmul"})
CHANNELS_SECOND = frozenset({"native_batch_norm", "cudnn_batch_norm", "native_group_norm", "_native_batch_norm_legit"})
POOLS = frozenset({"max_pool2d_with_indices", "avg_pool2d"})
VIEWS = frozenset({"view", "_unsafe_view", "reshape", "_reshape_alias"})
MAX_PREFIX_TOKENS = 16


@dataclass(frozen=True)
class Geometry:
    """The grid of features on the image, in pixels; each pair is (height, width).

    The centre of cell `(i, j)` lies at pixel `offset + stride * (i, j)`, the centre of the first pixel being 0.

    Attributes:
        image: size of the image.
        grid: number of cells.
        stride: pixels from one cell to the next.
        offset: where the first cell's centre lies.
        prefix_tokens: tokens in front of those of the grid, such as a class token.
    """

    image: tuple[int, int]
    grid: tuple[int, int]
    stride: Pair
    offset: Pair
    prefix_tokens: int = 0


@dataclass(frozen=True)
class Mark:
    """What is known of one tensor: the dimension of its channels, and its grid's stride and offset."""

    axis: int | None
    stride: Pair | None = None
    offset: Pair = (0.0, 0.0)


class Tracker:
    """The marks of the tensors of one pass, by identity; the tensors must be kept alive."""

    def __init__(self) -> None:
        self.marks: dict[int, Mark] = {}
        self.image: tuple[int, int] | None = None

    def argument(self, tensor: Tensor) -> None:
        """An argument of the model; the first with four dimensions is the image."""
        if not tensor.is_floating_point():
            return
        if tensor.ndim == 4 and self.image is None:
            self.image = (tensor.shape[2], tensor.shape[3])
            self.marks[id(tensor)] = Mark(1, (1.0, 1.0))
        else:
            self.marks[id(tensor)] = Mark(1 if tensor.ndim > 2 else None)

    def operator(self, name: str, args: tuple[Any, ...], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """One operator has run."""
        if not outputs:
            return
        out = outputs[0]
        marked = [(t, m) for t in inputs if (m := self.marks.get(id(t))) is not None]
        if not marked and name != "embedding":
            return
        alike = [pair for pair in marked if pair[0].ndim == out.ndim] or marked
        source, mark = max(alike, key=lambda pair: pair[0].numel(), default=(out, Mark(None)))
        found = _after(name, args, source, mark, [m for _, m in alike], out)
        for tensor in outputs:
            self.marks[id(tensor)] = found


def _after(name: str, args: tuple[Any, ...], source: Tensor, mark: Mark, marks: Sequence[Mark], out: Tensor) -> Mark:
    if name == "convolution":
        _, _, _, stride, padding, dilation, transposed, *_ = args
        kernel = args[1].shape[2:]
        reach = [((k - 1) * d) / 2 - p for k, d, p in zip(kernel, _each(dilation), _each(padding), strict=False)]
        return replace(_windows(mark, _each(stride), reach, backwards=bool(transposed)), axis=1)
    if name in POOLS:
        kernel, stride, padding = (*args[1:4], None, None)[:3]
        reach = [(k - 1) / 2 - p for k, p in zip(_each(kernel), _each(padding or 0), strict=False)]
        return replace(_windows(mark, _each(stride or kernel), reach), axis=1)
    if name.startswith(("_adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_")) and out.ndim == 4 == source.ndim:
        ratio = [before / after for before, after in zip(source.shape[2:], out.shape[2:], strict=True)]
        return replace(_windows(mark, ratio, [(r - 1) / 2 for r in ratio]), axis=1)
    if name in CHANNELS_LAST:
        return replace(mark, axis=out.ndim - 1)
    if name in CHANNELS_SECOND:
        return replace(mark, axis=1)
    if name == "native_layer_norm" and len(args[1]) == 1:
        return replace(mark, axis=out.ndim - 1)
    if name == "permute" and mark.axis is not None:
        return replace(mark, axis=[d % source.ndim for d in args[1]].index(mark.axis))
    if name in ("transpose", "t") and mark.axis is not None:
        one, two = (0, source.ndim - 1) if name == "t" else (d % source.ndim for d in args[1:3])
        return replace(mark, axis={one: two, two: one}.get(mark.axis, mark.axis))
    if name in VIEWS:
        return replace(mark, axis=_viewed(source, mark.axis, out))
    if name == "cat" and mark.stride is not None:
        offsets = [m.offset for m in marks if m.stride == mark.stride]
        return replace(mark, offset=(_mean([o[0] for o in offsets]), _mean([o[1] for o in offsets])))
    if name == "slice" and mark.stride is not None and source.ndim == 4 and mark.axis is not None:
        return _sliced(mark, *args[1:])
    return mark if source.ndim == out.ndim else replace(mark, axis=None)


def _windows(mark: Mark, stride: Sequence[float], reach: Sequence[float], *, backwards: bool = False) -> Mark:
    """Windows whose first centre lies `reach` cells from the first cell, `stride` cells apart; or their inverse."""
    if mark.stride is None or len(stride) != 2 or len(reach) != 2:
        return mark
    pairs = zip(mark.stride, mark.offset, stride, reach, strict=True)
    if backwards:
        grown = [(step / s, first - step * r / s) for step, first, s, r in pairs]
    else:
        grown = [(step * s, first + step * r) for step, first, s, r in pairs]
    (sh, oh), (sw, ow) = grown
    return replace(mark, stride=(sh, sw), offset=(oh, ow))


def _sliced(mark: Mark, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Mark:
    assert mark.stride is not None
    spatial = [d for d in range(1, 4) if d != mark.axis]
    if dim % 4 not in spatial:
        return mark
    which = spatial.index(dim % 4)
    stride, offset = list(mark.stride), list(mark.offset)
    offset[which] += max(start or 0, 0) * stride[which]
    stride[which] *= step
    return replace(mark, stride=(stride[0], stride[1]), offset=(offset[0], offset[1]))


def _viewed(source: Tensor, axis: int | None, out: Tensor) -> int | None:
    if axis is None or out.shape == source.shape:
        return axis
    if axis == source.ndim - 1 and out.ndim and out.shape[-1] == source.shape[-1]:
        return out.ndim - 1
    return 1 if axis == 1 and out.shape[:2] == source.shape[:2] else None


def layout_of(tensor: Tensor, mark: Mark | None) -> str:
    """How a batch of features is laid out: see `Cut.layout`."""
    axis = mark.axis if mark is not None else None
    if tensor.ndim == 4:
        _, a, b, c = tensor.shape
        return "NHWC" if axis == 3 or (axis is None and a == b != c) else "NCHW"
    if tensor.ndim == 3:
        return "NCL" if axis == 1 else "tokens"
    return "vector" if tensor.ndim == 2 else "other"


def geometry_of(tensor: Tensor, layout: str, mark: Mark | None, image: tuple[int, int] | None) -> Geometry | None:
    """Where the features' grid lies; None where there is none to be found."""
    if image is None or mark is None or mark.stride is None:
        return None
    if layout in ("NCHW", "NHWC"):
        grid = tuple(tensor.shape[2:]) if layout == "NCHW" else tuple(tensor.shape[1:3])
        return None if grid == (1, 1) else _placed(image, (grid[0], grid[1]), mark)
    if layout != "tokens":
        return None
    for merged in (1, 2, 4, 8):
        grid = (round(image[0] / (mark.stride[0] * merged)), round(image[1] / (mark.stride[1] * merged)))
        extra = tensor.shape[1] - grid[0] * grid[1]
        if min(grid) > 1 and 0 <= extra <= MAX_PREFIX_TOKENS:
            return _placed(image, grid, mark, extra)
    return None


def _placed(image: tuple[int, int], grid: tuple[int, int], mark: Mark, prefix_tokens: int = 0) -> Geometry:
    assert mark.stride is not None
    stride, offset = list(mark.stride), list(mark.offset)
    for side in (0, 1):
        whole = image[side] / grid[side]
        if not 0.65 < whole / stride[side] < 1.55:
            # Cells were merged or split where no operator told: their centre is that of the cells they are made of.
            offset[side] += (whole - stride[side]) / 2
            stride[side] = whole
    return Geometry(image, grid, (stride[0], stride[1]), (offset[0], offset[1]), prefix_tokens)


def _each(value: Any) -> list[float]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * 2 if len(values) == 1 else values


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
