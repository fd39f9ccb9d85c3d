"""How alike two sets of feature maps look, channel by channel (Wang et al. 2004)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["structural_similarity"]

WINDOW, SIGMA = 11, 1.5
"""Of the Gaussian that means and variances are weighted by, in cells; of a smaller map the largest odd window in it."""

TOGETHER = 1 << 22
"""Values that are filtered at once."""


def structural_similarity(one: Tensor, other: Tensor, data_range: float = 1.0) -> Tensor:
    """SSIM of each map, its mean over the places where the whole window lies on the map.

    `(2 m n + c1) (2 s + c2) / ((m^2 + n^2 + c1) (v + w + c2))` with the means m and n, the variances v and w and the
    covariance s under a Gaussian window, `c1 = (0.01 data_range)^2` and `c2 = (0.03 data_range)^2`.

    Args:
        one, other: [n, C, h, w].

    Returns:
        [n, C] float64 on the CPU, from -1 to 1; 1 where both are equal.
    """
    n, channels, height, width = one.shape
    side = min(WINDOW, height - 1 + height % 2, width - 1 + width % 2)
    rows = max(1, TOGETHER // (channels * height * width))
    window = _gaussian(side).to(one.device)
    parts = [
        _of_few(first.double(), second.double(), window, data_range)
        for first, second in zip(torch.split(one.detach(), rows), torch.split(other.detach(), rows), strict=True)
    ]
    return torch.cat(parts) if parts else one.new_zeros(n, channels, dtype=torch.float64).cpu()


def _of_few(one: Tensor, other: Tensor, window: Tensor, data_range: float) -> Tensor:
    least, spread = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    means = one_mean, other_mean = _filtered(one, window), _filtered(other, window)
    variances = (
        (_filtered(x * x, window) - mean * mean).clamp(min=0) for x, mean in zip((one, other), means, strict=True)
    )
    together = _filtered(one * other, window) - one_mean * other_mean
    light = (2 * one_mean * other_mean + least) / (one_mean.square() + other_mean.square() + least)
    return (light * (2 * together + spread) / (sum(variances) + spread)).mean((2, 3)).cpu()


def _filtered(maps: Tensor, window: Tensor) -> Tensor:
    """[n, C, h, w] -> [n, C, h - k + 1, w - k + 1], along one axis after the other."""
    rows = maps.flatten(0, 1)[:, None]
    rows = functional.conv2d(functional.conv2d(rows, window[None, None, :, None]), window[None, None, None, :])
    return rows[:, 0].view(*maps.shape[:2], *rows.shape[2:])


def _gaussian(side: int) -> Tensor:
    away = torch.arange(side, dtype=torch.float64) - side // 2
    weights = (-away.square() / (2 * SIGMA**2)).exp()
    return weights / weights.sum()
