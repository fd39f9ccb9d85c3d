"""How far derived features are from exact ones, channel by channel: as vectors, and by what it does to the outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..augment import Grid
from ..codecs import Classes, Task, evaluating
from ..codecs.outputs import output_of
from ..errors import ArgumentError, NonFiniteError
from .structural_similarity import structural_similarity

__all__ = ["channel_distance", "channel_harm", "score_of"]


DISTANCES = ("cosine", "ssim", "psnr", "relative", "energy")

TOGETHER = 64
"""Samples that have one peak signal-to-noise ratio; those of several such batches are averaged."""


def channel_distance(
    exact: Tensor, derived: Tensor, metric: str = "cosine", channel_axis: int = 1, grid: Grid | None = None
) -> Tensor:
    """How far the derived features are from the exact ones, for each channel, over all samples and positions.

    With e and d a channel's exact and derived values as vectors over samples and positions:

    - "cosine": 1 - <e, d> / (|e| |d|), from 0 to 2;
    - "ssim": 1 - SSIM of the maps with a data range of 1 (`structural_similarity`), its mean over samples, from 0 to 2:
      what the code of Yang et al. 2025 chooses by, unless it is told otherwise;
    - "psnr": 10^(-PSNR / 10), likewise with a data range of 1, their other measure. The PSNR, in dB, is the mean over
      batches of 64, so this is the geometric mean of their mean squared differences, and 0 where one batch is equal;
    - "relative": |d - e|^2 / |e|^2;
    - "energy": |d - e|^2 / n, in squared units of the features, for n samples.

    For "cosine" and "relative" a channel that is dead (zero) in both is 0, and one that is zero in one of them alone
    is 1.

    Args:
        exact, derived: [n, ...] of one shape, with C channels along channel_axis.
        grid: how tokens lie over the image, for "ssim"; those in front of it do not count.

    Returns:
        [C] float32 on the CPU.

    Raises:
        ArgumentError: shapes that differ, an unknown metric, or features without a place for "ssim".
        NonFiniteError: NaN or infinity in either.
    """
    if exact.shape != derived.shape:
        raise ArgumentError(
            f"channel_distance: exact {list(exact.shape)} and derived {list(derived.shape)} must have one shape"
        )
    if metric not in DISTANCES:
        raise ArgumentError(
            f"channel_distance: metric must be one of {', '.join(map(repr, DISTANCES))}, got {metric!r}"
        )
    _check_finite(exact, "exact", channel_axis)
    _check_finite(derived, "derived", channel_axis)
    axes = [axis for axis in range(exact.ndim) if axis != channel_axis % exact.ndim]
    e, d = exact.detach().float(), derived.detach().float()
    if metric == "ssim":
        one, other = (_maps(features, channel_axis % exact.ndim, grid) for features in (e, d))
        return (1 - structural_similarity(one, other).mean(0)).clamp(min=0).float()
    if metric == "psnr":
        parts = zip(torch.split(e, TOGETHER), torch.split(d, TOGETHER), strict=True)
        errors = torch.stack([(second - first).double().square().mean(axes) for first, second in parts])
        return errors.log().mean(0).exp().float().cpu()
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
    task: Task | None = None,
) -> Tensor:
    """What each channel's difference does to the suffix's outputs: E[<g, d - e>^2], to second order.

    g is the gradient at the exact features. With a task it is that of `Task.score`: half of the mean is then the Fisher
    approximation of the divergence that this channel alone would cause. Without one, and without a loss, outputs
    [n, classes] are taken for class scores; for others the gradient is that of a random projection, and the mean
    approximates the squared change of the outputs.

    Args:
        suffix: features -> outputs; run in eval. Its parameters get no gradients.
        exact, derived: [n, ...] of one shape.
        loss: outputs of a batch -> a scalar that sums over samples, such as a cross entropy to known targets.
        draws: random targets or projections for each sample.

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
        for start in range(0, len(exact), batch_size):
            rows = slice(start, min(start + batch_size, len(exact)))
            e, d = exact.detach()[rows], derived.detach()[rows]
            leaf = e.clone().requires_grad_()
            outputs = suffix(leaf)
            for remaining in reversed(range(rounds)):
                goal = loss(outputs) if loss is not None else score_of(task, outputs, generator, rows)
                (gradient,) = torch.autograd.grad(goal, leaf, retain_graph=remaining > 0)
                change = _total(gradient.float() * (d - e).float(), axes) if axes else gradient.double() * (d - e)
                harm += change.square().sum(0).cpu()
    return (harm / (rounds * len(exact))).float()


def score_of(task: Task | None, outputs: Any, generator: Generator, rows: slice) -> Tensor:
    """A scalar whose squared gradient has the mean that `channel_harm` speaks of."""
    if task is not None:
        return task.score(outputs, generator, rows)
    known = output_of(outputs)
    if known.ndim == 2 and known.shape[1] > 1:
        return Classes().score(known, generator, rows)
    return (known * torch.randn(known.shape, generator=generator).to(known)).sum()


def _maps(features: Tensor, channel_axis: int, grid: Grid | None) -> Tensor:
    """Features as maps [n, C, h, w]."""
    if features.ndim == 4:
        return features.movedim(channel_axis, 1)
    if features.ndim != 3 or grid is None:
        raise ArgumentError(
            f'channel_distance: "ssim" compares maps, and features of the shape {list(features.shape)} are none; '
            "of tokens give the grid, or take another metric"
        )
    cells = features[:, grid.prefix_tokens :].mT
    return cells.reshape(*cells.shape[:2], *grid.feature_size)


def _total(values: Tensor, axes: list[int]) -> Tensor:
    return values.sum(axes, dtype=torch.float64)


def _check_finite(features: Tensor, name: str, channel_axis: int) -> None:
    if bool(features.isfinite().all()):
        return
    bad = (~features.isfinite()).nonzero()[0].tolist()
    raise NonFiniteError(
        f"the {name} features hold NaN or infinity: sample {bad[0]}, channel {bad[channel_axis % features.ndim]}"
    )
