"""Steps that change an image's size otherwise than is known of them, so that nobody can say where pixels lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..geometry.placement import Placement, as_sizes
from .batching import image_size
from .draws import Draw
from .pipeline import Pipeline
from .step_placement import advance

__all__ = ["unplaced"]


def unplaced(pipeline: Pipeline, items: Sequence[Any], ids: Sequence[int], draw: Draw) -> str | None:
    """The first step that gives a few images a size which its place does not foretell, in words; None where none does.

    An error of a step is told where it is met again: here it ends the look at its image.

    Args:
        items: raw images.
        ids: their numbers.
        draw: from the pipeline's `draw`.
    """
    for item, number in zip(items, ids, strict=True):
        sizes, image = as_sizes(image_size(item), 1), item
        for position, (step, decisions) in enumerate(zip(pipeline.steps, draw.decisions, strict=True)):
            try:
                (image,) = pipeline.run_step(position, (image,), number, draw)
                found = _sizes(image)
            except Exception:  # of whatever a step may call; what it gives may be no image any more
                break
            before = sizes
            if step.paired is not None and decisions is not None:
                sizes = step.paired.place(decisions[number][None], sizes)[1]
            else:
                sizes = advance(step.transform, Placement.identity(1), sizes)[1]
            height, width = sizes[0].tolist()
            if (height, width) not in found:
                now, was = ("x".join(map(str, size)) for size in (found[0], before[0].tolist()))
                return (
                    f"{step.name} makes {now} of an image of {was}, and where its pixels come from is not known; put "
                    "Resize or CenterCrop of torchvision in its place"
                )
    return None


def _sizes(image: Any) -> list[tuple[int, int]]:
    """Height and width; of an array, which may have its channels in front or behind, both that they can be."""
    if isinstance(image, np.ndarray) and image.ndim == 3:
        return [(image.shape[1], image.shape[2]), (image.shape[0], image.shape[1])]
    return [image_size(image)]
