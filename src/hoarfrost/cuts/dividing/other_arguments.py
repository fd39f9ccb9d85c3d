"""Arguments that a model was not divided with: the front was run without them, so that a suffix cannot follow them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..sandbox.arguments import Key
from .symbolic_shapes import Outline

__all__ = ["other_argument"]


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
    """Whether a value is the usual one; of what holds tensors only that it is there."""
    if usual is inspect.Parameter.empty:
        return False
    if usual is None or isinstance(usual, str | int | float):
        return not isinstance(value, Tensor) and bool(value == usual)
    return True
