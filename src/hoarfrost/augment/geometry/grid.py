"""How the cells of a feature map lie over the image, and in the tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...errors import ArgumentError

__all__ = ["Grid"]


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
        ArgumentError: a size below 1, an unknown layout, prefix tokens in a layout that has none, or a step of 0.
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
        if self.pixels is not None and (len(self.pixels) != 2 or any(step <= 0 for _, step in self.pixels)):
            raise ArgumentError(
                "Grid: pixels must be (first, step) for the vertical and for the horizontal axis, with a step above 0, "
                f"got {self.pixels}"
            )

    @classmethod
    def of(
        cls,
        image_size: tuple[int, int],
        feature_size: tuple[int, int],
        *,
        stride: Sequence[float],
        offset: Sequence[float],
        layout: str = "NCHW",
        prefix_tokens: int = 0,
    ) -> Grid:
        """A grid whose cell (i, j) has its centre at pixel `offset + stride * (i, j)`, as a cut's `geometry` says."""
        pixels = ((float(offset[0]), float(stride[0])), (float(offset[1]), float(stride[1])))
        return cls(image_size, feature_size, layout, prefix_tokens, pixels)

    @property
    def stride(self) -> tuple[float, float]:
        """Pixels a cell, (vertical, horizontal): image size over feature size."""
        return (self.image_size[0] / self.feature_size[0], self.image_size[1] / self.feature_size[1])

    def cells_of(self, axis: int) -> tuple[float, float]:
        """Where the cells lie along an axis: the pixel of the first cell's centre, and pixels from one to the next."""
        return self.pixels[axis] if self.pixels is not None else self.tiles_of(axis)

    def tiles_of(self, axis: int) -> tuple[float, float]:
        """The same for cells that tile the image evenly, whatever is known of them."""
        stride = self.stride[axis]
        return (stride - 1) / 2, stride

    def check(self, features: Tensor, name: str = "derive") -> None:
        """Raise ArgumentError unless features lie on this grid."""
        height, width = self.feature_size
        if self.layout == "NCHW":
            fits = features.ndim == 4 and tuple(features.shape[2:]) == (height, width)
            wanted = f"[N, C, {height}, {width}]"
        elif self.layout == "NHWC":
            fits = features.ndim == 4 and tuple(features.shape[1:3]) == (height, width)
            wanted = f"[N, {height}, {width}, C]"
        else:
            fits = features.ndim == 3 and features.shape[1] == self.prefix_tokens + height * width
            wanted = f"[N, {self.prefix_tokens + height * width}, D]"
        if not fits:
            raise ArgumentError(
                f"{name}: features must be {wanted} for this grid, got {list(features.shape)}; supported are "
                'feature maps (layouts "NCHW" and "NHWC") and tokens of a map (layout "tokens")'
            )

    def rows(self, features: Tensor) -> Tensor:
        """[N * T, C], contiguous: a row for each cell of each sample, prefix tokens included."""
        # Two axes are exchanged much faster than three.
        cells = features.flatten(2).mT if self.layout == "NCHW" else features
        return cells.reshape(-1, cells.shape[-1]).contiguous()

    def features(self, rows: Tensor, n: int, feature_size: tuple[int, int]) -> Tensor:
        """The inverse of `rows` for maps of any size, without a copy: maps of layout "NCHW" are channels_last."""
        height, width = feature_size
        cells = rows.view(n, self.prefix_tokens + height * width, rows.shape[1])
        if self.layout == "tokens":
            return cells
        return (
            cells.view(n, height, width, rows.shape[1])
            if self.layout == "NHWC"
            else cells.mT.view(n, rows.shape[1], height, width)
        )
