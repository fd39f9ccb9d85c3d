"""How far derived features are from exact ones, channel by channel: as vectors, and by what it does to the outputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from ..codecs import evaluating
from ..errors import ArgumentError, NonFiniteError

__all__ = ["channel_distance", "channel_harm", "own_divergence"]


DISTANCES = ("cosine", "relative", "energy")


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
    if metric not in DISTANCES:
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
