"""One step on an image together with what belongs to it: masks, boxes and keypoints move with their image."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torchvision import tv_tensors
from torchvision.transforms.v2._utils import query_size

from ...errors import ArgumentError, DataError
from ..transforms.erasing import Erasing
from ..transforms.paired import Paired
from ..transforms.randomness import forked_random_states, seed_random_states
from . import from_timm
from .albumentations_calls import call_on_sample, is_albumentations, names_of
from .deterministic import Deterministic, is_deterministic
from .steps import Step

__all__ = [
    "MOVING_WITH_IMAGES",
    "apply_together",
    "as_masks",
    "call_together",
    "is_apart",
    "known_names",
    "moves_by_type",
    "moves_images",
    "takes_two",
]

MOVING_WITH_IMAGES: tuple[type, ...] = tuple(
    getattr(tv_tensors, name) for name in ("Mask", "BoundingBoxes", "KeyPoints") if hasattr(tv_tensors, name)
)
"""torchvision's types of what is no image and moves with one; older versions have no keypoints."""

_RESHAPING = (v1.Resize, v1.CenterCrop, v1.Pad)
_PURE_HOLDER = v2.Identity()


def moves_by_type(steps: Sequence[Step]) -> bool:
    """Whether all steps take images and tv_tensors alone, by their types, and can do nothing to what else there is."""
    return all(
        (_takes_image_alone(step) or isinstance(step.transform, (v2.Transform, Paired)))
        and not isinstance(step.transform, v2.Lambda)
        for step in steps
    )


def moves_images(steps: Sequence[Step]) -> bool:
    """Whether a step is known to move what an image shows, so that a mask of it must move too."""
    return any(
        not isinstance(step.paired, Erasing)
        if step.paired is not None
        else step.moves_unseen and (_takes_image_alone(step) or isinstance(step.transform, v2.Transform))
        for step in steps
    )


def known_names(steps: Sequence[Step]) -> frozenset[str]:
    """The keywords by which albumentations' steps take an image, and what moves with it; none where there is none."""
    return frozenset().union(*(names_of(step.transform) for step in steps if is_albumentations(step.transform)))


def takes_two(steps: Sequence[Step]) -> bool:
    """Whether a function of the user's own cannot be called with an image alone: it asks for image and target."""
    return any(_asks_for_two(step.transform) for step in steps)


def is_apart(item: Any, other: Any) -> bool:
    """Whether steps that move by type leave `other` alone, so that the image may be rendered without it."""
    if isinstance(other, (int, float, str)):
        return True
    seen: tuple[type, ...] = (tv_tensors.TVTensor, Image.Image, np.ndarray)
    if not isinstance(item, (Tensor, Image.Image)):
        # Of several things that are no image yet, v2 takes the first tensor for one.
        seen = (*seen, Tensor)
    return not any(isinstance(leaf, seen) for leaf in tree_flatten(other)[0])


def as_masks(other: Any) -> Any:
    """The same tree with its PIL images as tv_tensors.Mask, which move without being blended."""
    return tree_map(lambda leaf: tv_tensors.Mask(leaf) if isinstance(leaf, Image.Image) else leaf, other)


def apply_together(step: Step, parts: tuple[Any, ...], decisions: Tensor | None, own: Sequence[Any]) -> tuple[Any, ...]:
    """One step on (image, other), or on (sample,): as the user's own Compose would call it, under these decisions.

    Raises:
        ArgumentError: something moves with the image, and the step moves images alone.
        DataError: the step gives another number of things.
    """
    if step.paired is not None and decisions is not None:
        return _move_together(step, step.paired, parts, decisions)
    if step.kind != "image-only" or decisions is None:
        return call_together(step, parts)
    with forked_random_states(own):
        seed_random_states(int(decisions), list(own))
        return call_together(step, parts)


def call_together(step: Step, parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """The user's own transform on (image, other), or on (sample,), in the way that its library is called."""
    if len(parts) == 1:
        sample = parts[0]
        if is_albumentations(step.transform) and isinstance(sample, dict):
            beside = {name: value for name, value in sample.items() if name != "image"}
            image, beside = call_on_sample(step.transform, sample.get("image"), beside)
            return ({**sample, **beside, "image": image},)
        return (step.call(sample),)
    if is_albumentations(step.transform):
        item, other = call_on_sample(step.transform, *parts)
        if other is parts[1] and not is_deterministic(step.transform):
            _refuse_moving(step, other)
        return item, other
    if _takes_image_alone(step):
        if isinstance(step.transform, _RESHAPING) or from_timm.moves_grid(step.transform) or step.moves_unseen:
            _refuse_moving(step, parts[1])
        return (step.call(parts[0]), *parts[1:])
    result = step.transform(*parts)
    if not isinstance(result, (tuple, list)) or len(result) != len(parts):
        raise DataError(
            f"{step.name} was called with {len(parts)} things, an image and what belongs to it, and gave "
            f"{type(result).__name__ if not isinstance(result, (tuple, list)) else len(result)}; it must give as many"
        )
    return tuple(result)


def _move_together(step: Step, paired: Paired, parts: tuple[Any, ...], row: Tensor) -> tuple[Any, ...]:
    flat, structure = tree_flatten(parts)
    holder = step.transform if isinstance(step.transform, v2.Transform) else _PURE_HOLDER
    moved = holder._needs_transform_list(flat)
    if not any(moved):
        return parts
    size = query_size([leaf for leaf, moves in zip(flat, moved, strict=True) if moves])
    move = _v2_move(step.transform, paired, flat, row, size)
    if move is None:
        return parts
    together: tuple[Any, ...] = tree_unflatten(
        [move(leaf) if moves else leaf for leaf, moves in zip(flat, moved, strict=True)], structure
    )
    return together


def _v2_move(
    transform: Any, paired: Paired, flat: list[Any], row: Tensor, size: tuple[int, int]
) -> Callable[[Any], Any] | None:
    """How one leaf is moved; None where the whole sample stays as it is."""
    if not isinstance(transform, v2.Transform):
        return lambda leaf: (
            paired.on_target(leaf, row, size) if isinstance(leaf, MOVING_WITH_IMAGES) else paired.on_item(leaf, row)
        )
    # Before torchvision 0.21 the methods were private.
    public = hasattr(transform, "check_inputs")
    (transform.check_inputs if public else transform._check_inputs)(flat)
    params = paired.v2_params(row, size)
    if params is None:
        return None
    kernel = transform.transform if public else transform._transform
    return lambda leaf: kernel(leaf, params)


def _takes_image_alone(step: Step) -> bool:
    """Whether it is known to be called with one image; unknown functions and v2's transforms take all that there is."""
    transform = step.transform
    if isinstance(transform, (v2.Transform, v1.Lambda, Deterministic)) or is_albumentations(transform):
        return False
    library = type(transform).__module__
    known = library.startswith(("torchvision.transforms", "kornia.")) or from_timm.timm_name(transform) is not None
    return known or is_deterministic(transform)


def _asks_for_two(transform: Any) -> bool:
    function = transform.function if isinstance(transform, Deterministic) else transform
    if type(function).__module__.startswith("torchvision.") or is_albumentations(function):
        return False
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    placed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in placed and one.default is one.empty for one in parameters) == 2


def _refuse_moving(step: Step, other: Any) -> None:
    for leaf in tree_flatten(other)[0]:
        if isinstance(leaf, MOVING_WITH_IMAGES):
            raise ArgumentError(
                f"{step.name} moves images alone, and a {type(leaf).__name__} has to move with its image: take "
                "torchvision.transforms.v2's transform in its place, or a function of (image, target)"
            )
