"""How far each channel is from commuting with an augmentation, and which channels to store because of it.

After Yang et al. 2025 (arXiv 2508.15033): where a channel's features of an augmented image are close to its
augmented features of the image, the latter can stand in for them. The metrics other than "cosine" are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from ..augment import Border, Draw, Grid, Paired, Pipeline, Placement, derive, image_size
from ..codecs import evaluating
from ..errors import ArgumentError, NonFiniteError

__all__ = ["Metric", "channel_distance", "channel_harm", "sensitivity"]

Metric = Literal["cosine", "relative", "energy", "harm"]
_DISTANCES = ("cosine", "relative", "energy")


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
        metric: "cosine", "relative" or "energy" (see `channel_distance`), or "harm" (see `channel_harm`).
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
    if metric not in (*_DISTANCES, "harm"):
        raise ArgumentError(f'sensitivity: metric must be "cosine", "relative", "energy" or "harm", got {metric!r}')
    if metric == "harm" and suffix is None:
        raise ArgumentError('sensitivity: metric "harm" needs the suffix whose outputs are harmed; give suffix=...')
    if len(images) == 0:
        raise ArgumentError("sensitivity: no images; a calibration sample has at least one")
    if generator is None:
        generator = torch.Generator().manual_seed(seed)
    exact, derived = _both(prefix, images, augmentation, grid, border, seed, generator, batch_size)
    if metric == "harm" and suffix is not None:
        return channel_harm(suffix, exact, derived, channel_axis, loss=loss, seed=seed, batch_size=batch_size)
    return channel_distance(exact, derived, metric, channel_axis)


def channel_distance(exact: Tensor, derived: Tensor, metric: str = "cosine", channel_axis: int = 1) -> Tensor:
    """How far the derived features are from the exact ones, for each channel, over all samples and positions.

    With e and d a channel's exact and derived values as vectors over samples and positions:

    - "cosine": 1 - <e, d> / (|e| |d|), from 0 to 2 (Yang et al. 2025);
    - "relative": |d - e|^2 / |e|^2;
    - "energy": |d - e|^2 / n, in squared units of the features, for n samples.

    For the first two a channel that is dead (zero) in both is 0, and one that is zero in one of them alone
    is 1.

    Args:
        exact, derived: [n, ...] of one shape, with C channels along channel_axis.

    Returns:
        [C] float32 on the CPU.

    Raises:
        ArgumentError: shapes that differ, or an unknown metric.
        NonFiniteError: NaN or infinity in either.
    """
    if exact.shape != derived.shape:
        raise ArgumentError(
            f"channel_distance: exact {list(exact.shape)} and derived {list(derived.shape)} must have one shape"
        )
    if metric not in _DISTANCES:
        raise ArgumentError(f'channel_distance: metric must be "cosine", "relative" or "energy", got {metric!r}')
    _check_finite(exact, "exact", channel_axis)
    _check_finite(derived, "derived", channel_axis)
    axes = [axis for axis in range(exact.ndim) if axis != channel_axis % exact.ndim]
    e, d = exact.detach().float(), derived.detach().float()
    difference = _total((d - e).square(), axes)
    if metric == "energy":
        return (difference / len(e)).float().cpu()
    exact_energy, derived_energy = _total(e.square(), axes), _total(d.square(), axes)
    if metric == "relative":
        distance = difference / exact_energy
    else:
        # 2 |e| |d| (1 - cos) = |d - e|^2 - (|e| - |d|)^2, which keeps small distances that 1 - cos cancels away.
        lengths = (exact_energy * derived_energy).sqrt()
        distance = (difference - (exact_energy.sqrt() - derived_energy.sqrt()).square()).clamp(min=0) / (2 * lengths)
    dead_exact, dead_derived = exact_energy == 0, derived_energy == 0
    distance = torch.where(dead_exact | dead_derived, torch.ones_like(distance), distance)
    return torch.where(dead_exact & dead_derived, torch.zeros_like(distance), distance).float().cpu()


def channel_harm(
    suffix: nn.Module,
    exact: Tensor,
    derived: Tensor,
    channel_axis: int = 1,
    *,
    loss: Callable[[Tensor], Tensor] | None = None,
    draws: int = 4,
    seed: int = 0,
    batch_size: int = 64,
) -> Tensor:
    """What each channel's difference does to the suffix's outputs: E[<g, d - e>^2], to second order.

    g is the gradient at the exact features. Without a loss it is that of the log-likelihood of a class drawn
    from the suffix's own softmax, which makes half of the mean the Fisher approximation of the
    Kullback-Leibler divergence that this channel alone would cause; for outputs that are not [n, classes] it
    is that of a random projection, and the mean approximates the squared change of the outputs.

    Args:
        suffix: features -> outputs; run in eval. Its parameters get no gradients.
        exact, derived: [n, ...] of one shape.
        loss: outputs of a batch -> a scalar that sums over samples, such as a cross entropy to known targets.
        draws: random classes or projections for each sample.

    Returns:
        [C] float32 on the CPU, in squared units of the loss.

    Raises:
        ArgumentError: shapes that differ.
        NonFiniteError: NaN or infinity in the features.
    """
    if exact.shape != derived.shape:
        raise ArgumentError(
            f"channel_harm: exact {list(exact.shape)} and derived {list(derived.shape)} must have one shape"
        )
    _check_finite(exact, "exact", channel_axis)
    _check_finite(derived, "derived", channel_axis)
    axis = channel_axis % exact.ndim
    axes = [other for other in range(1, exact.ndim) if other != axis]
    generator = torch.Generator().manual_seed(seed)
    harm = torch.zeros(exact.shape[axis], dtype=torch.float64)
    rounds = draws if loss is None else 1
    with evaluating(suffix, gradients=True):
        for e, d in zip(
            torch.split(exact.detach(), batch_size), torch.split(derived.detach(), batch_size), strict=True
        ):
            leaf = e.clone().requires_grad_()
            outputs = suffix(leaf)
            for remaining in reversed(range(rounds)):
                goal = loss(outputs) if loss is not None else own_divergence(outputs, generator)
                (gradient,) = torch.autograd.grad(goal, leaf, retain_graph=remaining > 0)
                change = _total(gradient.float() * (d - e).float(), axes) if axes else gradient.double() * (d - e)
                harm += change.square().sum(0).cpu()
    return (harm / (rounds * len(exact))).float()


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
    sizes = torch.tensor([image_size(item) for item in items])

    def view(draw: Draw) -> tuple[Tensor, Placement, Tensor]:
        images = pipeline.render(items, ids, draw)
        return _features(prefix, images, batch_size), pipeline.placement(draw, ids, sizes), images

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
    with evaluating(prefix):
        return torch.cat([prefix(batch.to(device)) for batch in torch.split(images, batch_size)])


def own_divergence(outputs: Tensor, generator: Generator) -> Tensor:
    """A scalar whose squared gradient has the mean that `channel_harm` speaks of."""
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        log_likelihood = outputs.float().log_softmax(1)
        classes = torch.multinomial(log_likelihood.detach().exp().cpu(), 1, generator=generator)
        return log_likelihood.gather(1, classes.to(outputs.device)).sum()
    noise = torch.randn(outputs.shape, generator=generator).to(outputs)
    return (outputs * noise).sum()


def _total(values: Tensor, axes: list[int]) -> Tensor:
    return values.sum(axes, dtype=torch.float64)


def _check_finite(features: Tensor, name: str, channel_axis: int) -> None:
    if bool(features.isfinite().all()):
        return
    bad = (~features.isfinite()).nonzero()[0].tolist()
    raise NonFiniteError(
        f"the {name} features hold NaN or infinity: sample {bad[0]}, channel {bad[channel_axis % features.ndim]}"
    )
