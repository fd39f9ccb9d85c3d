"""How far each channel is from commuting with an augmentation, and which channels to store because of it.

After Yang et al. 2025 (arXiv 2508.15033): where a channel's features of an augmented image are close to its
augmented features of the image, the latter can stand in for them. How close they are is measured by "ssim", or "psnr",
over flips in the authors' public code; "cosine", the default here, and the other metrics are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from ..augment import Border, Draw, Grid, Paired, Pipeline, Placement, derive, image_size
from ..codecs import evaluating
from ..cuts import Prefix, hooks_apart
from ..errors import ArgumentError
from .distances import DISTANCES, channel_distance, channel_harm

__all__ = ["Metric", "sensitivity"]

Metric = Literal["cosine", "ssim", "psnr", "relative", "energy", "harm"]


def sensitivity(
    prefix: nn.Module,
    images: Tensor | Sequence[Any],
    augmentation: Paired | Pipeline | Sequence[Paired],
    metric: Metric = "cosine",
    *,
    suffix: nn.Module | None = None,
    loss: Callable[[Tensor], Tensor] | None = None,
    channel_axis: int = 1,
    grid: Grid | None = None,
    border: Border = "zeros",
    seed: int = 0,
    generator: Generator | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Distance between the features F(a(x)) and their stand-in, for each channel, over a calibration sample.

    With paired augmentations the stand-in is a(F(x)): the augmentation, one after the other, on the features
    of the images as they are. With a pipeline it is what the cache would derive: the features of one random
    view brought to the place of another random view of the same sample, so that image-only steps count too.

    Args:
        prefix: gives features [n, C, h, w], or [n, T, D] with channel_axis=2; run in eval without gradients.
        images: [n, C, H, W] as the prefix takes them; for a pipeline the raw images that it renders.
        augmentation: one paired augmentation, several in order, or a Pipeline.
        metric: "cosine", "ssim", "psnr", "relative" or "energy" (see `channel_distance`), or "harm" (see
            `channel_harm`).
        suffix: what follows the prefix; needed for "harm" alone.
        loss: for "harm", the suffix's outputs of a batch -> a scalar, instead of the output's own divergence.
        channel_axis: 1 for feature maps, 2 for tokens.
        grid: how features lie over the image; needed where their shape cannot tell it (prefix tokens).
        border: what cells get that the stand-in does not know; see `derive`.
        seed: of the random decisions.
        generator: draws them instead of the seed; not for a pipeline.
        batch_size: images run through the prefix at once.

    Returns:
        [C] float32 on the CPU; 0 commutes, larger is more sensitive.

    Raises:
        ArgumentError: an unknown metric, no images, "harm" without a suffix, unsupported features.
        NonFiniteError: NaN or infinity in features.
    """
    if metric not in (*DISTANCES, "harm"):
        known = ", ".join(map(repr, (*DISTANCES, "harm")))
        raise ArgumentError(f"sensitivity: metric must be one of {known}, got {metric!r}")
    if metric == "harm" and suffix is None:
        raise ArgumentError('sensitivity: metric "harm" needs the suffix whose outputs are harmed; give suffix=...')
    if len(images) == 0:
        raise ArgumentError("sensitivity: no images; a calibration sample has at least one")
    if generator is None:
        generator = torch.Generator().manual_seed(seed)
    exact, derived = _both(prefix, images, augmentation, grid, border, seed, generator, batch_size)
    if metric == "harm" and suffix is not None:
        return channel_harm(suffix, exact, derived, channel_axis, loss=loss, seed=seed, batch_size=batch_size)
    if metric == "ssim" and exact.ndim == 3:
        grid = grid or _grid(images if isinstance(images, Tensor) else exact[:, None], exact, None)
    return channel_distance(exact, derived, metric, channel_axis, grid)


def _both(
    prefix: nn.Module,
    images: Tensor | Sequence[Any],
    augmentation: Paired | Pipeline | Sequence[Paired],
    grid: Grid | None,
    border: Border,
    seed: int,
    generator: Generator,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """Exact features and their stand-ins."""
    if isinstance(augmentation, Pipeline):
        return _both_views(prefix, images, augmentation, grid, border, seed, batch_size)
    steps = [augmentation] if isinstance(augmentation, Paired) else list(augmentation)
    if not isinstance(images, Tensor):
        raise ArgumentError(
            f"sensitivity: images must be a tensor [n, C, H, W] for a paired augmentation, got {type(images).__name__}"
        )
    derived, moved = _features(prefix, images, batch_size), images
    for step in steps:
        params = step.sample(len(images), generator)
        here = grid if grid is not None and moved is images else _grid(moved, derived, grid)
        derived = step.on_features(derived, params, here, border)
        moved = step.on_images(moved, params)
    return _features(prefix, moved, batch_size), derived


def _both_views(
    prefix: nn.Module,
    items: Tensor | Sequence[Any],
    pipeline: Pipeline,
    grid: Grid | None,
    border: Border,
    seed: int,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    ids = torch.arange(len(items))
    frames = pipeline.frame(torch.tensor([image_size(item) for item in items]), len(items))

    def view(draw: Draw) -> tuple[Tensor, Placement, Tensor]:
        images = pipeline.render(items, ids, draw)
        return _features(prefix, images, batch_size), pipeline.placement(draw, ids, frames), images

    base, source, images = view(pipeline.draw(len(items), 2 * seed))
    exact, target, _ = view(pipeline.draw(len(items), 2 * seed + 1))
    return exact, derive(base, source, target, grid or _grid(images, base, None), border)


def _grid(images: Tensor, features: Tensor, like: Grid | None) -> Grid:
    size = (int(images.shape[-2]), int(images.shape[-1]))
    if features.ndim == 4:
        return Grid(size, (int(features.shape[2]), int(features.shape[3])))
    prefix_tokens = like.prefix_tokens if like is not None else 0
    side = math.isqrt(features.shape[1] - prefix_tokens) if features.ndim == 3 else 0
    if features.ndim != 3 or side * side != features.shape[1] - prefix_tokens:
        raise ArgumentError(
            f"sensitivity: features of the shape {list(features.shape)} are neither a feature map "
            "[n, C, h, w] nor a square of tokens [n, T, D]; "
            'give grid=Grid(..., layout="tokens", prefix_tokens=...)'
        )
    return Grid(size, (side, side), "tokens", prefix_tokens)


def _features(prefix: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    parameter = next(prefix.parameters(), None)
    device = images.device if parameter is None else parameter.device
    apart = prefix.hooks_apart() if isinstance(prefix, Prefix) else hooks_apart(prefix)
    with evaluating(prefix), apart:
        return torch.cat([prefix(batch.to(device)) for batch in torch.split(images, batch_size)])
