"""What a model gives, which may be a tensor or hold one: the tensor that it is judged by, and a loss of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor

from ..errors import ArgumentError

__all__ = ["alike", "loss_in", "loss_of", "output_of", "shows"]


def output_of(output: Any) -> Tensor:
    """The tensor by which a suffix's output is judged: its `logits`, or the first of floats that is no single number.

    Raises:
        ArgumentError: it holds no tensor.
    """
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    held = list(_tensors(output))
    if not held:
        raise ArgumentError(f"the suffix gives {type(output).__name__}, which holds no tensor to measure harm on")
    return next((tensor for tensor in held if tensor.dim() > 0 and tensor.is_floating_point()), held[0])


def _tensors(output: Any) -> Iterator[Tensor]:
    """Those in it, however it is nested, in their order; but what a detector finds, a mapping for each sample, has rows
    of its own."""
    if isinstance(output, Tensor):
        yield output
        return
    if isinstance(output, Mapping):
        inner: list[Any] = list(output.values())
    elif isinstance(output, tuple | list):
        inner = [item for item in output if not isinstance(item, Mapping)]
    else:
        known = dataclasses.is_dataclass(output) and not isinstance(output, type)
        inner = [getattr(output, field.name) for field in dataclasses.fields(output)] if known else []
    for item in inner:
        yield from _tensors(item)


def loss_in(output: Any) -> Tensor | None:
    """The loss that a model computes by itself: its `loss`, or its only tensor, a scalar, or the sum of what it gives
    where that is a mapping of nothing but scalars; None where it has none."""
    held = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if _is_loss(held):
        return held
    tensors = list(_tensors(output))
    if len(tensors) == 1 and _is_loss(tensors[0]):
        return tensors[0]
    parts = list(output.values()) if isinstance(output, Mapping) else []
    return torch.stack(parts).sum() if parts and all(map(_is_loss, parts)) else None


def shows(output: Any) -> bool:
    """Whether there is something in a model's output that it can be judged by."""
    if loss_in(output) is not None:
        return True
    try:
        return output_of(output).dim() > 0
    except ArgumentError:
        return False


def alike(output: Any) -> bool:
    """Whether a model gives the same for all of several samples."""
    if not shows(output) or loss_in(output) is not None:
        return False
    found = output_of(output)
    return len(found) > 1 and bool((found == found[:1]).all())


def loss_of(output: Any, targets: Any = None) -> Tensor:
    """The loss that a model computes by itself, called as other losses are.

    Raises:
        ArgumentError: it gives none.
    """
    loss = loss_in(output)
    if loss is None:
        raise ArgumentError(f"the model gives {type(output).__name__}, which holds no loss")
    return loss


def _is_loss(value: Any) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.dim() == 0 and value.is_floating_point()
