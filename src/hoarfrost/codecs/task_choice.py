"""Which task a model has: as it is told, by the loss that it is trained with, or by its targets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ArgumentError
from .outputs import loss_in, loss_of, output_of
from .task import Classes, Labels, OwnLoss, Task, Values, channels_of

__all__ = ["harm_of", "task_by_shape", "task_of"]

UNLABELLED = 255
"""What segmentation writes where a pixel has no class, beside negative numbers."""

Loss = Callable[..., Any]

KNOWN: dict[str, tuple[Loss, ...]] = {
    "classes": (nn.CrossEntropyLoss, nn.NLLLoss, F.cross_entropy, F.nll_loss),
    "labels": (
        *(nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss),
        *(F.binary_cross_entropy_with_logits, F.multilabel_soft_margin_loss),
    ),
    "values": (
        *(nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.CosineEmbeddingLoss, nn.CosineSimilarity),
        *(F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.cosine_embedding_loss, F.cosine_similarity),
    ),
}
"""torch's own losses, by the task that they are for."""


def harm_of(harm: Any, criterion: Loss | None) -> Any:
    """`harm` as it was told; "auto" becomes the task of a criterion that is known, else the criterion itself."""
    if harm != "auto" or criterion is None:
        return harm
    bare = criterion.func if isinstance(criterion, functools.partial) else criterion
    for name, losses in KNOWN.items():
        if any(isinstance(bare, loss) if isinstance(loss, type) else bare is loss for loss in losses):
            return name
    if not callable(criterion):
        raise ArgumentError(f"criterion must be a function of outputs and targets, not {criterion!r}")
    return criterion


def task_of(harm: Any, outputs: Sequence[Any], targets: Any) -> Task:
    """The task by which outputs are judged.

    Told "auto", a loss that the outputs hold is taken. Else the targets tell: whole numbers with an axis fewer than the
    outputs, below the number of these: classes; numbers of the outputs' shape: classes where rows sum to one, labels
    where all are 0 or 1, else values. Values are also what fits none of that, and outputs whose rows have length one.

    Args:
        harm: "auto", "classes", "labels" or "values", or a loss: (what the suffix gives, targets) -> a scalar, or a
            loss for each sample.
        outputs: what the suffix gives for a sample on exact features, batch by batch.
        targets: [N, ...] of the sample; None, or anything else, where there are none.
    """
    known = targets if isinstance(targets, Tensor) else None
    if callable(harm):
        return OwnLoss(harm, _beside(known, outputs))
    if harm == "auto" and loss_in(outputs[0]) is not None:
        return OwnLoss(loss_of)
    exact = torch.cat([output_of(batch) for batch in outputs])
    kind = _told_by(exact, known) if harm == "auto" else harm
    if kind == "classes":
        return _classes(exact, known)
    return Labels(Values.of(channels_of(exact))) if kind == "labels" else Values.of(exact, _alike(exact, known))


def task_by_shape(outputs: Tensor) -> Task:
    """Where no targets are known: [N, K] with K > 1 are class scores, other outputs are values."""
    return Classes() if outputs.dim() == 2 and outputs.shape[1] > 1 else Values.of(outputs)


def _told_by(outputs: Tensor, targets: Tensor | None) -> str:
    if targets is None or outputs.dim() < 1 or _unit_rows(outputs):
        return "values"
    whole = not targets.is_floating_point()
    axis = _class_axis(outputs, targets)
    if whole and axis is not None and outputs.shape[axis] > 1:
        return "classes" if bool((targets[_has_class(targets)] < outputs.shape[axis]).all()) else "values"
    alike = _alike(outputs, targets)
    if alike is None:
        return "values"
    alike = alike.double()
    if outputs.dim() == 2 and outputs.shape[1] > 1 and _is_probability(alike):
        return "classes"
    return "labels" if bool(((alike == 0) | (alike == 1)).all()) else "values"


def _classes(outputs: Tensor, targets: Tensor | None) -> Classes:
    axis = None if targets is None else _class_axis(outputs, targets)
    if targets is None or axis is None or targets.is_floating_point():
        classes = Classes(1 if outputs.dim() != 3 else -1)
    else:
        valid = _has_class(targets) & (targets < outputs.shape[axis])
        classes = Classes(axis, None if bool(valid.all()) or not bool(valid.any()) else valid)
    return replace(classes, scores=Values.of(classes.columns(outputs.double())))


def _class_axis(outputs: Tensor, targets: Tensor) -> int | None:
    """The axis of the outputs that targets of this shape lack: the second, as for `F.cross_entropy`, or the last."""
    if outputs.dim() < 2:
        return None
    if targets.shape == outputs.shape[:1] + outputs.shape[2:]:
        return 1
    return -1 if targets.shape == outputs.shape[:-1] else None


def _has_class(targets: Tensor) -> Tensor:
    return (targets >= 0) & (targets != UNLABELLED) if targets.dim() > 1 else targets >= 0


def _alike(outputs: Tensor, targets: Tensor | None) -> Tensor | None:
    """Targets in the shape of the outputs ([N] for [N, 1] too); None where they have another."""
    if targets is None or targets.dim() < 1 or len(targets) != len(outputs) or targets.numel() != outputs.numel():
        return None
    fits = targets.shape == outputs.shape or targets.squeeze().shape == outputs.squeeze().shape
    return targets.reshape(outputs.shape) if fits else None


def _is_probability(rows: Tensor) -> bool:
    return bool((rows >= 0).all()) and bool(((rows.sum(1) - 1).abs() < 1e-3).all())


def _unit_rows(outputs: Tensor) -> bool:
    """Whether they are embeddings on a sphere, which no class scores are."""
    return outputs.dim() == 2 and outputs.shape[1] > 1 and bool(((outputs.double().norm(dim=1) - 1).abs() < 1e-3).all())


def _beside(targets: Tensor | None, outputs: Sequence[Any]) -> Tensor | None:
    """Targets on the device of the outputs."""
    held = loss_in(outputs[0])
    if targets is None:
        return None
    return targets.to(output_of(outputs[0]).device if held is None else held.device)
