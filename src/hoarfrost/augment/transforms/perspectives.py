"""Seeing images from aside, and their features' grid with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import _get_perspective_coeffs

from ...errors import ArgumentError
from .functional import kernels, size_of
from .warps import Warp

__all__ = ["Perspective"]


@dataclass(frozen=True)
class Perspective(Warp):
    """The corners moved inwards at random with probability p, as RandomPerspective; see `Warp` for other arguments.

    Params: [n, 9] float64: 1 where it is applied, and 8 random numbers from 0 to 1, which become corners when the
        image's size is known (`corners`).

    Args:
        distortion: the share of half the image by which a corner moves at most.
        p: probability.

    Raises:
        ArgumentError: either is not from 0 to 1.
    """

    distortion: float = 0.5
    p: float = 0.5
    interpolation: InterpolationMode | str | int = field(default=InterpolationMode.BILINEAR, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("distortion", "p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"Perspective: {name} must be from 0 to 1, got {getattr(self, name)!r}")

    @property
    def is_random(self) -> bool:
        return self.p > 0

    @property
    def fills(self) -> bool:
        return self.p > 0

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        numbers = torch.rand(n, 9, generator=generator, dtype=torch.float64)
        numbers[:, 0] = (numbers[:, 0] < self.p).double()
        return numbers

    def still(self, n: int) -> Tensor:
        return torch.zeros(n, 9, dtype=torch.float64)

    def corners(self, params: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """The corners (x, y) of images of the sizes [n, 2], and where they are moved: [n, 4, 2] float64 each.

        Clockwise from the top left one; in pixels as torchvision counts them, the last column being width - 1.
        """
        far = sizes.flip(1).double()
        reach = (self.distortion * (far / 2).floor()).floor() + 1
        moved = (params[:, 1:].double().view(-1, 4, 2) * reach[:, None]).floor()
        behind = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=torch.float64)
        return behind * (far - 1)[:, None], moved + behind * (far - reach)[:, None]

    def on_item(self, item: Any, params: Tensor) -> Any:
        if not bool(params[0]):
            return item
        corners = self.corners(params[None], size_of(item))
        start, end = ([[int(x), int(y)] for x, y in points[0].tolist()] for points in corners)
        return kernels(self.version).perspective(
            item, start, end, interpolation=self.interpolation, fill=self.fill_for(item)
        )

    def v2_params(self, params: Tensor, size: tuple[int, int]) -> dict[str, Any] | None:
        if not bool(params[0]):
            return None
        corners = self.corners(params[None], torch.tensor([size]))
        start, end = ([[int(x), int(y)] for x, y in points[0].tolist()] for points in corners)
        return {"coefficients": _get_perspective_coeffs(start, end)}

    def maps(self, params: Tensor, sizes: Tensor) -> Tensor:
        maps = torch.eye(3, dtype=torch.float64).repeat(len(params), 1, 1)
        applied = params[:, 0] > 0
        if bool(applied.any()):
            start, end = self.corners(params[applied], sizes[applied])
            maps[applied] = _through(end, start)
        return maps


def _through(points: Tensor, images: Tensor) -> Tensor:
    """[n, 3, 3] on (y, x, 1): the projective maps that bring four points (x, y) to four others, [n, 4, 2] each."""
    ones = torch.ones_like(points[..., :1])
    place = torch.cat([points, ones], -1)
    nothing = torch.zeros_like(place)
    rows = [
        torch.cat([place, nothing, -images[..., :1] * points], -1),
        torch.cat([nothing, place, -images[..., 1:] * points], -1),
    ]
    known = torch.stack(rows, 2).flatten(1, 2)
    # The solver that torchvision takes, since corners may fall together and leave much open.
    found = torch.linalg.lstsq(known, images.flatten(1)[..., None], driver="gels").solution[..., 0]
    a, b, c, d, e, f, g, h = found.unbind(1)
    return torch.stack([torch.stack(row, 1) for row in ([e, d, f], [b, a, c], [h, g, torch.ones_like(g)])], 1)
