"""Whether a pipeline keeps what all else rests on: one sample under one draw is one image."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_flatten

from ...errors import UnstableTransformError
from ..transforms.own_states import find_states
from ..transforms.randomness import forked_random_states, random_positions, seed_random_states
from .draws import Draw
from .joint import call_together
from .pipeline import Pipeline

__all__ = ["check_repeatable"]


def check_repeatable(
    pipeline: Pipeline,
    items: Sequence[Any],
    ids: Sequence[int] | Tensor,
    draw: Draw,
    others: Sequence[Any] | None = None,
) -> None:
    """Render a few samples twice under one draw, others in between and in another order, and compare bit by bit.

    What the image-only steps were seen to do is remembered for `describe`: whether they drew random numbers at all.

    Args:
        items: raw images, or whole samples as `render_samples` takes them where others is an empty list; they are
            copied, since a transform may write on what it gets.
        ids, draw: as for `render`.
        others: what belongs to the images, for a joint transform, as `render_with` takes it.

    Raises:
        UnstableTransformError: two images; names the step, the sample and the way out.
    """
    rows = [int(row) for row in torch.as_tensor(ids, dtype=torch.int64).reshape(-1)]
    first = [_trail(pipeline, _parts(items, others, i), row, draw) for i, row in enumerate(rows)]
    between = pipeline.draw(draw.samples, draw.seed + 1)
    for i, row in enumerate(rows):
        _trail(pipeline, _parts(items, others, i), row, between)
    for i, row in reversed(list(enumerate(rows))):
        again = _trail(pipeline, _parts(items, others, i), row, draw)
        for position, (one, other) in enumerate(zip(first[i][0], again[0], strict=True)):
            if one != other:
                raise UnstableTransformError(_told(pipeline, position, row))
    pipeline.remember_drawing([any(trail[1][k] for trail in first) for k in range(len(pipeline.steps))])


def _parts(items: Sequence[Any], others: Sequence[Any] | None, i: int) -> tuple[Any, ...]:
    return copy.deepcopy((items[i],) if others is None or not len(others) else (items[i], others[i]))


def _trail(pipeline: Pipeline, parts: tuple[Any, ...], row: int, draw: Draw) -> tuple[list[bytes], list[bool]]:
    """What one sample is behind each step, as bytes; and which of the steps drew from a random state that we know."""
    seen, drew = [], []
    whole = len(parts) > 1 or isinstance(parts[0], (dict, tuple, list))
    for position in range(len(pipeline.steps)):
        own = find_states(pipeline.steps[position].transform)
        drew.append(_draws(pipeline, position, parts, row, draw, own, whole))
        parts = pipeline.run_step(position, parts, row, draw, whole)
        seen.append(_bytes(parts))
    return seen, drew


def _draws(
    pipeline: Pipeline, position: int, parts: tuple[Any, ...], row: int, draw: Draw, own: list[Any], whole: bool
) -> bool:
    """Whether an image-only step takes random numbers, on a copy of what it gets."""
    step, decisions = pipeline.steps[position], draw.decisions[position]
    if step.kind != "image-only" or decisions is None:
        return False
    with forked_random_states(own):
        seed_random_states(int(decisions[row]), own)
        before = random_positions(own)
        if whole:
            call_together(step, copy.deepcopy(parts))
        else:
            step.call(copy.deepcopy(parts[0]))
        return random_positions(own) != before


def _bytes(value: Any) -> bytes:
    return b"|".join(_leaf(leaf) for leaf in tree_flatten(value)[0])


def _leaf(leaf: Any) -> bytes:
    if isinstance(leaf, Image.Image):
        return f"{leaf.mode}{leaf.size}".encode() + leaf.tobytes()
    if isinstance(leaf, Tensor):
        plain = leaf.as_subclass(Tensor).detach().cpu().contiguous()
        return f"{plain.dtype}{list(plain.shape)}".encode() + plain.view(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(leaf, np.ndarray):
        return f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes()
    return repr(leaf).encode()


def _told(pipeline: Pipeline, position: int, row: int) -> str:
    step = pipeline.steps[position]
    return (
        f"check_repeatable: step {position} of the transform, {step.name}, gave two images for sample {row} under one "
        "draw: it holds a state that was not found. Let it draw from torch, random or numpy.random, or keep its "
        "generator in an attribute or a variable that the function closes over; it must not count its calls"
    )
