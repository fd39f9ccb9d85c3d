"""Cropping padded images, and the shift of the features that belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional

from ...errors import ArgumentError, ImageShapeError
from ..geometry.placement import Placement, as_sizes
from .filling import filling
from .paired import Paired, check_images

__all__ = ["PaddedCrop"]

_BITS = 31
_MODES = ("constant", "edge", "reflect", "symmetric")


@dataclass(frozen=True)
class PaddedCrop(Paired):
    """A random window of the padded image, as torchvision's RandomCrop.

    Params: [n, 2], 31 random bits for the vertical and for the horizontal offset. They become pixels only when the
    image's size is known (`offsets`), so decisions can be drawn before any image is seen.

    Args:
        size: height and width of the window, or one number for both.
        padding: pixels on all sides, (left and right, top and bottom), or (left, top, right, bottom).
        fill: value of constant padding, one or one for each channel, in the images' own unit.
        padding_mode: "constant", "edge", "reflect" or "symmetric". Features have a
            border of their own, see `on_features`.
        pad_if_needed: pad further where the padded image is still smaller than the window.

    Raises:
        ArgumentError: a size below 1, negative padding or an unknown padding mode.
    """

    size: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    fill: float | tuple[float, ...] = 0
    padding_mode: str = "constant"
    pad_if_needed: bool = False

    copies_pixels: ClassVar[bool] = True

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = 0,
        fill: float | Sequence[float] | None = 0,
        padding_mode: str = "constant",
        pad_if_needed: bool = False,
    ) -> None:
        sides = (size,) if isinstance(size, int) else tuple(int(side) for side in size)
        pads = (padding or 0,) if isinstance(padding, int) or padding is None else tuple(int(pad) for pad in padding)
        if len(sides) not in (1, 2) or min(sides) < 1:
            raise ArgumentError(f"PaddedCrop: size must be one number or (height, width), at least 1, got {size!r}")
        if len(pads) not in (1, 2, 4) or min(pads) < 0:
            raise ArgumentError(f"PaddedCrop: padding must be 1, 2 or 4 numbers, 0 or more, got {padding!r}")
        if padding_mode not in _MODES:
            raise ArgumentError(f"PaddedCrop: padding_mode must be one of {', '.join(_MODES)}, got {padding_mode!r}")
        if pad_if_needed and padding_mode != "constant":
            raise ArgumentError(f'PaddedCrop: pad_if_needed needs padding_mode "constant", got {padding_mode!r}')
        scalar = fill is None or isinstance(fill, (int, float))
        object.__setattr__(self, "size", sides * (2 // len(sides)))
        object.__setattr__(self, "padding", pads * (4 // len(pads)))
        object.__setattr__(self, "fill", (fill or 0) if scalar else tuple(fill))  # type: ignore[arg-type]
        object.__setattr__(self, "padding_mode", padding_mode)
        object.__setattr__(self, "pad_if_needed", pad_if_needed)

    @property
    def fills(self) -> bool:
        """Whether its windows can show pixels that are nothing but the fill."""
        return self.padding_mode == "constant" and (self.pad_if_needed or any(self.padding))

    @property
    def is_random(self) -> bool:
        return True

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.randint(0, 1 << _BITS, (n, 2), generator=generator, dtype=torch.int64)

    def still(self, n: int) -> Tensor:
        return torch.full((n, 2), 1 << (_BITS - 1), dtype=torch.int64)

    def margins(self, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Padding in front of and behind images of the sizes [n, 2]: two tensors [n, 2], in pixels."""
        left, top, right, bottom = self.padding
        before = torch.tensor([top, left]).expand(sizes.shape)
        after = torch.tensor([bottom, right]).expand(sizes.shape)
        if self.pad_if_needed:
            lacking = (torch.tensor(self.size) - sizes - before - after).clamp(min=0)
            before, after = before + lacking, after + lacking
        return before, after

    def offsets(self, params: Tensor, sizes: Tensor) -> Tensor:
        """Top left corner of the window in the padded image: [n, 2], in pixels.

        Raises:
            ImageShapeError: an image is smaller than the window, padding included.
        """
        before, after = self.margins(sizes)
        room = sizes + before + after - torch.tensor(self.size)
        if bool((room < 0).any()):
            height, width = sizes[(room < 0).any(1)][0].tolist()
            raise ImageShapeError(
                f"PaddedCrop: the window {self.size[0]}x{self.size[1]} is larger than an image of "
                f"{height}x{width} with its padding {self.padding}; resize the images first, "
                "or use pad_if_needed=True"
            )
        return (params * (room + 1)) >> _BITS

    def on_images(self, images: Tensor, params: Tensor) -> Tensor:
        check_images("PaddedCrop", images, params)
        n, (height, width) = len(images), images.shape[-2:]
        sizes = as_sizes((height, width), n)
        offsets = self.offsets(params.cpu(), sizes).to(images.device)
        if n == 0:
            return images.new_empty(*images.shape[:-2], *self.size)
        (before, after) = (margin[0].tolist() for margin in self.margins(sizes))
        padded = self._pad(images.reshape(n, -1, height, width), before, after)
        if bool((offsets == offsets[0]).all()):
            top, left = offsets[0].tolist()
            window = padded[:, :, top : top + self.size[0], left : left + self.size[1]]
            return window.reshape(*images.shape[:-2], *self.size)
        windows = padded.unfold(2, self.size[0], 1).unfold(3, self.size[1], 1)
        rows = torch.arange(n, device=images.device)
        return windows[rows, :, offsets[:, 0], offsets[:, 1]].reshape(*images.shape[:-2], *self.size)

    def on_item(self, item: Any, params: Tensor) -> Any:
        sizes = torch.tensor([functional.get_size(item)])
        before, after = (margin[0].tolist() for margin in self.margins(sizes))
        top, left = self.offsets(params[None], sizes)[0].tolist()
        if any(before) or any(after):
            fill = self.fill if isinstance(self.fill, (int, float)) else [float(value) for value in self.fill]
            margins = [before[1], before[0], after[1], after[0]]
            item = functional.pad(item, margins, fill=fill, padding_mode=self.padding_mode)
        return functional.crop(item, top, left, *self.size)

    def v2_params(self, params: Tensor, size: tuple[int, int]) -> dict[str, Any] | None:
        sizes = torch.tensor([size])
        before, after = (margin[0].tolist() for margin in self.margins(sizes))
        top, left = self.offsets(params[None], sizes)[0].tolist()
        padded = [sum(sides) for sides in zip(size, before, after, strict=True)]
        return {
            "needs_crop": padded != list(self.size),
            "top": top,
            "left": left,
            "height": self.size[0],
            "width": self.size[1],
            "needs_pad": any(before) or any(after),
            "padding": [before[1], before[0], after[1], after[0]],
        }

    def place(self, params: Tensor, sizes: Tensor) -> tuple[Placement, Tensor]:
        shift = self.offsets(params, sizes) - self.margins(sizes)[0]
        return Placement.shifted(shift), as_sizes(self.size, len(params))

    def _pad(self, images: Tensor, before: list[int], after: list[int]) -> Tensor:
        """[n, C, H, W], padded by (vertical, horizontal) margins."""
        if not any(before) and not any(after):
            return images
        n, channels, height, width = images.shape
        if self.padding_mode != "constant":
            rows = _reflected(height, before[0], after[0], self.padding_mode).to(images.device)
            columns = _reflected(width, before[1], after[1], self.padding_mode).to(images.device)
            return images.index_select(2, rows).index_select(3, columns)
        padded = images.new_empty(n, channels, height + before[0] + after[0], width + before[1] + after[1])
        padded[:] = self._fill(images)
        padded[:, :, before[0] : before[0] + height, before[1] : before[1] + width] = images
        return padded

    def blank(self, images: Tensor) -> Tensor:
        return torch.zeros_like(images) + self._fill(images)

    def _fill(self, images: Tensor) -> Tensor:
        # The cast goes through float and cuts off, as both PIL and torch do with a fill such as 123.675.
        return filling("PaddedCrop", self.fill, images)


def _reflected(length: int, before: int, after: int, mode: str) -> Tensor:
    """The source position of each position of a padded axis."""
    positions = torch.arange(-before, length + after)
    if mode == "edge" or length == 1:
        return positions.clamp(0, length - 1)
    period = 2 * length if mode == "symmetric" else 2 * length - 2
    positions = positions.remainder(period)
    return torch.minimum(positions, (period - 1 if mode == "symmetric" else period) - positions)
