"""Tensors inside nested values: tuples, lists, mappings, named tuples, dataclasses."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, MutableMapping
from typing import Any

from torch import Tensor

__all__ = ["leaves", "map_leaves", "tensors_in"]


def leaves(value: Any) -> list[Any]:
    """All that is not a container, in a fixed order: tensors, numbers, None, anything else.

    >>> leaves({"a": (1, 2), "b": [None]})
    [1, 2, None]
    """
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, MutableMapping):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in leaves(item)]
    if _is_record(value):
        return [leaf for field in dataclasses.fields(value) for leaf in leaves(getattr(value, field.name))]
    return [value]


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors among the leaves, in their order."""
    if isinstance(value, Tensor):
        return [value]
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """The same structure with `function` applied to each leaf, in the order of `leaves`."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, MutableMapping):
        # A copy keeps the mapping's own type (transformers' ModelOutput is a mapping and a dataclass).
        mapping = copy.copy(value)
        for key, item in value.items():
            mapping[key] = map_leaves(function, item)
        return mapping
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_leaves(function, item) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(map_leaves(function, item) for item in value)
    if _is_record(value):
        record = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(record, field.name, map_leaves(function, getattr(value, field.name)))
        return record
    return function(value)


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
