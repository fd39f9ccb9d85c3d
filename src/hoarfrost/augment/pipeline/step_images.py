"""What one step makes of images: of a whole batch at once where that has the same bits, else of one after the other."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...errors import ArgumentError
from ..transforms.randomness import forked_random_states, seed_random_states
from .batching import Batch, kind_of, stack, unstack
from .deterministic import batched_form
from .steps import Step

__all__ = ["apply_to_images", "as_batch"]


def apply_to_images(step: Step, held: Batch | list[Any], decisions: Tensor | None, own: list[Any]) -> Batch | list[Any]:
    """One step on images of some samples, as the user's own Compose would call it, under these decisions.

    Args:
        decisions: the samples' rows of the draw; None where the step draws nothing.
        own: the random states that the step holds itself.

    Raises:
        ArgumentError: an object that a paired step cannot take.
    """
    if step.kind == "image-only" and decisions is not None:
        with forked_random_states(own):
            return [_seeded(step, item, int(row), own) for item, row in zip(unstack(held), decisions, strict=True)]
    kind = held.kind if isinstance(held, Batch) else kind_of(held[0])
    if step.paired is not None and decisions is not None:
        batch = as_batch(held)
        whole = kind in ("tensor", "image") or (kind == "pil" and step.paired.copies_pixels)
        if batch is not None and whole and batch.tensor.ndim >= 3 and not step.paired.varies_size:
            return batch.with_tensor(step.paired.on_images(batch.tensor, decisions))
        return [_moved(step, item, row) for item, row in zip(unstack(held), decisions, strict=True)]
    form = batched_form(step.transform, kind)
    batch = as_batch(held) if form is not None else None
    if form is not None and batch is not None:
        return form(batch)
    return [step.call(item) for item in unstack(held)]


def as_batch(held: Batch | list[Any]) -> Batch | None:
    """Images that are alike as one batch; None where they differ in type, mode or size."""
    return held if isinstance(held, Batch) else stack(held)


def _seeded(step: Step, item: Any, seed: int, own: list[Any]) -> Any:
    seed_random_states(seed, own)
    return step.call(item)


def _moved(step: Step, item: Any, row: Tensor) -> Any:
    if step.paired is None or kind_of(item) in ("numpy", "other"):
        raise ArgumentError(
            f"{step.name} cannot take a {type(item).__name__}; put ToTensor() or v2.ToImage() in front of it"
        )
    return step.paired.on_item(item, row)
