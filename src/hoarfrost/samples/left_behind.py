"""What belongs to an image and would stay behind where the transform moves it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torchvision.transforms.v2 as v2
from torch import Tensor

from ..augment import MOVING_WITH_IMAGES, Pipeline, moves_images
from ..errors import ArgumentError, DatasetError
from .places import Place, at, leaves_below, places_of, size_of, told_place

__all__ = ["refuse_masks", "refuse_sanitizing", "warn_of_boxes"]

logger = logging.getLogger("hoarfrost")


def refuse_masks(pipeline: Pipeline, image: Place, rendered: Sequence[Place], item: Any) -> None:
    """Raise DatasetError where an image moves, and something of its size, a mask say, would not.

    Args:
        image: that the transform is called with alone.
        rendered: all that it is called with.
    """
    if not moves_images(pipeline.steps):
        return
    size = size_of(at(item, image))
    for path, leaf in _beside(rendered, item):
        if isinstance(leaf, MOVING_WITH_IMAGES) or (size and size_of(leaf) == size):
            raise DatasetError(
                f"the transform moves what an image shows, and not the {type(leaf).__name__} at {told_place(path)}, "
                "which is of its size: a mask must move with its image. Let the data set give it as "
                "torchvision.tv_tensors.Mask, give the data set a transforms= of both, or hand over a function of "
                "(image, target)"
            )


def warn_of_boxes(pipeline: Pipeline, named: Sequence[Place], item: Any) -> None:
    """Say it where an image moves, and numbers that are called boxes are a plain tensor, which v2 leaves alone.

    Args:
        named: what the transform is given by a name that it knows.
    """
    if not moves_images(pipeline.steps):
        return
    plain = [path for path, leaf in _beside(named, item) if path and _is_plain_boxes(path[-1], leaf)]
    if plain:
        logger.warning(
            "the transform moves what an image shows, and not the plain tensor at %s: if these are boxes in pixels, "
            "let the data set give them as torchvision.tv_tensors.BoundingBoxes, and they move with their image",
            " and ".join(map(told_place, plain)),
        )


def refuse_sanitizing(pipeline: Pipeline) -> None:
    """Raise ArgumentError where boxes are to be dropped by a transform that is handed over: it is given the image and
    what moves with it, and no labels to drop with them."""
    if any(isinstance(step.transform, v2.SanitizeBoundingBoxes) for step in pipeline.steps):
        raise ArgumentError(
            "SanitizeBoundingBoxes drops boxes together with their labels, and a transform= that is handed over gets "
            "the image and its boxes alone: give the transform to the data set (transforms=, called with image and "
            "target), or hand over a function of the whole item, lambda item: transform(item)"
        )


def _beside(places: Sequence[Place], item: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Leaves that stand at none of these places."""
    there = {path for place in places for path in places_of(item, at(item, place))}
    return ((path, leaf) for path, leaf in leaves_below(item) if path not in there)


def _is_plain_boxes(key: Any, leaf: Any) -> bool:
    plain = type(leaf) is Tensor and leaf.is_floating_point() and leaf.dim() == 2 and leaf.shape[1] == 4
    return plain and "box" in str(key).lower()
