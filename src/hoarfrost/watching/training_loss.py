"""The loss that a model is trained with, of a batch and of each of its samples."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..codecs import task_of
from ..codecs.outputs import loss_in, loss_of, output_of

__all__ = ["TrainingLoss", "training_loss"]

Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class TrainingLoss:
    """The loss that a model is trained with.

    Attributes:
        batch: (what the model gives, targets) -> a scalar to train on.
        each: likewise, [n] of the samples, or [1] where the loss is of a batch alone.
        in_training: whether the model shows what they take in training alone; in eval it gives detections, say.
    """

    batch: Loss
    each: Loss
    in_training: bool = False


def training_loss(told: str | Callable[..., Any], outputs: Any, targets: Any) -> TrainingLoss | None:
    """What trains a model that gives such outputs; None where there is no loss.

    Args:
        told: the criterion, (what the model gives, targets) -> loss; or "auto", "classes", "labels" or "values".
            Without a criterion the loss is the model's own, where it gives one, else torch's for the task (`task_of`).
        targets: of the same batch; None where there are none.
    """
    if callable(told) and targets is not None:
        return TrainingLoss(told, _each(told))
    if loss_in(outputs) is not None:
        return TrainingLoss(loss_of, lambda given, beside: loss_of(given).reshape(1))
    if not isinstance(targets, Tensor):
        return None
    scores = output_of(outputs)
    kind = task_of(told, [scores], targets).name
    shape = scores.shape
    # Scores of tokens, [N, T, K], have their classes last; torch's loss has them second.
    last = targets.shape == shape[:-1] != shape[:1] + shape[2:]
    if kind == "classes":
        fits = targets.shape in (shape, shape[:1] + shape[2:], shape[:-1])
    else:
        fits = targets.numel() == scores.numel()
    if not fits:
        return None
    loss: Callable[..., Tensor] = F.binary_cross_entropy_with_logits if kind == "labels" else F.mse_loss

    def alone(given: Any, beside: Tensor, **reduction: Any) -> Tensor:
        found = output_of(given)
        if kind == "classes":
            return F.cross_entropy(found.movedim(-1, 1) if last else found, beside, **reduction)
        return loss(found, beside.reshape(found.shape).to(found.dtype), **reduction)

    return TrainingLoss(alone, lambda given, beside: _of_samples(alone(given, beside, reduction="none")))


def _each(criterion: Callable[..., Any]) -> Loss:
    """The criterion without its reduction, where it has one that can be left out."""
    if isinstance(criterion, nn.Module):
        if not isinstance(getattr(criterion, "reduction", None), str):
            return lambda given, beside: criterion(given, beside).reshape(-1)
        bare: Callable[..., Any] = copy.copy(criterion)
        bare.reduction = "none"  # type: ignore[attr-defined]
    else:
        try:
            known = inspect.signature(criterion).parameters
        except (TypeError, ValueError):  # a builtin, which tells nothing
            known = {}  # type: ignore[assignment]
        if "reduction" not in known:
            return lambda given, beside: criterion(given, beside).reshape(-1)
        bare = functools.partial(criterion, reduction="none")
    return lambda given, beside: _of_samples(bare(given, beside))


def _of_samples(losses: Tensor) -> Tensor:
    """[n], of losses [n, ...]."""
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses.reshape(-1)
