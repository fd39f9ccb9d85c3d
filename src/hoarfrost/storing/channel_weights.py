"""How much an error in each channel of the features matters to what the suffix makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..codecs import Task, evaluating
from .distances import score_of

__all__ = ["channel_weights"]


def channel_weights(
    suffix: nn.Module,
    features: Tensor,
    channel_axis: int = 1,
    *,
    call_with: Callable[[Tensor, int], Any] = lambda part, start: part,
    draws: int = 2,
    seed: int = 0,
    batch_size: int = 64,
    task: Task | None = None,
) -> Tensor | None:
    """The mean square of the gradient in each channel: what an error of a given size there does to the outputs.

    The gradient is that of `Task.score`: half of its mean square is the Fisher approximation of the divergence that
    independent errors cause, as in `channel_harm`. Without a task outputs [n, classes] are taken for class scores, and
    for others it is that of a random projection.

    Args:
        suffix: run in eval; its parameters get no gradients.
        features: [n, ...], a calibration sample.
        call_with: (part, its first row) -> what the suffix is called with, as for `measure_rungs`.
        draws: random targets or projections for each sample.

    Returns:
        [C] float64 on the CPU; None where the outputs have no gradient.
    """
    axis = channel_axis % features.dim()
    axes = [other for other in range(features.dim()) if other != axis]
    generator = torch.Generator().manual_seed(seed)
    weights = torch.zeros(features.shape[axis], dtype=torch.float64)
    with evaluating(suffix, gradients=True):
        for start in range(0, len(features), batch_size):
            leaf = features[start : start + batch_size].detach().clone().requires_grad_()
            try:
                # A suffix may write into its input, which no leaf allows.
                outputs = suffix(call_with(leaf.clone(), start))
                for remaining in reversed(range(draws)):
                    goal = score_of(task, outputs, generator, slice(start, start + len(leaf)))
                    (gradient,) = torch.autograd.grad(goal, leaf, retain_graph=remaining > 0)
                    weights += gradient.double().square().sum(axes).cpu()
            except RuntimeError:  # autograd's only way to say that something has no derivative
                return None
    return weights / (draws * features.numel() / len(weights))
