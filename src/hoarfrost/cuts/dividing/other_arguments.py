"""Arguments that a model was not divided with: the front was run without them, so that a suffix cannot follow them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from enum import Enum
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn

from ..sandbox.arguments import Key
from .symbolic_shapes import Outline

__all__ = ["other_argument"]

PLAIN = (NoneType, str, bytes, int, float, complex, tuple, list, dict, set, frozenset, Enum, torch.dtype, torch.device)
"""What says by `==` whether it is another."""


def other_argument(
    model: nn.Module, known: Mapping[Key, Outline], main: Key, args: Sequence[Any], keywords: Mapping[str, Any]
) -> str | None:
    """The first argument of a call that differs from the division's, or None.

    Args:
        known: what the model was divided with.
        main: what features take the place of.
        args, keywords: the call.
    """
    try:
        parameters = dict(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        parameters = {}
    ordered = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]

    def name_of(key: Key) -> Key:
        return ordered[key] if isinstance(key, int) and key < len(ordered) else key

    divided = {name_of(key): outline.structure for key, outline in known.items()}
    call: dict[Key, Any] = dict(enumerate(args))
    call.update(keywords)
    for key, value in call.items():
        name = name_of(key)
        if name == name_of(main):
            continue
        if name in divided:
            usual = divided[name]
        else:
            parameter = parameters.get(str(name))
            usual = None if parameter is None else parameter.default
        if not _may_be(value, usual):
            return str(name)
    return None


def _may_be(value: Any, usual: Any) -> bool:
    """Whether a value is the usual one; of what holds tensors, and of a user's own objects, only that it is there."""
    if value is usual:
        return True
    if usual is inspect.Parameter.empty:
        return False
    if not isinstance(usual, PLAIN):
        return True
    try:
        return not isinstance(value, Tensor) and bool(value == usual)
    except (RuntimeError, ValueError):  # an array, or what holds tensors, is neither equal nor not
        return False
