"""Tensors inside nested values: tuples, lists, mappings, named tuples, dataclasses, and objects that hold tensors."""

from __future__ import annotations

import copy
import dataclasses
import types
from collections.abc import Callable, MutableMapping
from typing import Any

from torch import Tensor, nn

__all__ = ["leaves", "map_leaves", "opened", "tensors_in"]

Rebuild = Callable[[list[Any]], Any]


def opened(value: Any) -> tuple[list[Any], Rebuild] | None:
    """What a container holds, and how to make the like of it from other items; None for a leaf."""
    if isinstance(value, (Tensor, str, bytes, int, float, nn.Module, type, types.ModuleType, types.FunctionType)):
        return None
    if isinstance(value, MutableMapping):
        keys = list(value)
        return list(value.values()), lambda items: _mapping_like(value, keys, items)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(value), lambda items: type(value)(*items)
    if isinstance(value, (list, tuple)):
        return list(value), type(value)
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        # An object such as torchvision's ImageList; of one without tensors nothing is to be known.
        held = getattr(value, "__dict__", {})
        names = list(held) if any(map(_holds_tensors, held.values())) else []
    if not names:
        return None
    return [getattr(value, name) for name in names], lambda items: _object_like(value, names, items)


def leaves(value: Any) -> list[Any]:
    """All that is not a container, in a fixed order: tensors, numbers, None, anything else.

    >>> leaves({"a": (1, 2), "b": [None]})
    [1, 2, None]
    """
    inner = opened(value)
    return [value] if inner is None else [leaf for item in inner[0] for leaf in leaves(item)]


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors among the leaves, in their order."""
    if isinstance(value, Tensor):
        return [value]
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """The same structure with `function` applied to each leaf, in the order of `leaves`."""
    inner = opened(value)
    if inner is None:
        return function(value)
    items, rebuild = inner
    return rebuild([map_leaves(function, item) for item in items])


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value)
    )


def _mapping_like(value: MutableMapping[Any, Any], keys: list[Any], items: list[Any]) -> Any:
    if type(value) is dict:
        return dict(zip(keys, items, strict=True))
    # A copy keeps the mapping's own type (transformers' ModelOutput is a mapping and a dataclass).
    mapping = copy.copy(value)
    for key, item in zip(keys, items, strict=True):
        mapping[key] = item
    return mapping


def _object_like(value: Any, names: list[str], items: list[Any]) -> Any:
    twin = copy.copy(value)
    for name, item in zip(names, items, strict=True):
        object.__setattr__(twin, name, item)
    return twin
