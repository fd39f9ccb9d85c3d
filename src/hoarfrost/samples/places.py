"""Where a part of an item or a batch stands: a position or a name, or a path of these."""

from __future__ import annotations

import copy
import dataclasses
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..augment import image_size
from ..errors import DatasetError, HoarfrostError

__all__ = [
    "Key",
    "Place",
    "at",
    "is_image",
    "is_picture",
    "items_of",
    "leaves_below",
    "listed",
    "mapped",
    "nearest",
    "path_of",
    "places_of",
    "replaced",
    "shape_of",
    "size_of",
    "stand_in",
    "told_place",
]

Key = int | str
Place = Key | tuple[Key, ...]
"""() is the whole."""


def items_of(tree: Any) -> dict[Any, Any] | None:
    """What an item or a batch holds at its top, by position or name; None for a leaf."""
    if isinstance(tree, Mapping):
        return dict(tree.items())
    if isinstance(tree, tuple | list):
        return dict(enumerate(tree))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    return None


def path_of(place: Place) -> tuple[Key, ...]:
    """The same place as a path."""
    return place if isinstance(place, tuple) else (place,)


def at(tree: Any, place: Place) -> Any:
    """One part of an item or a batch."""
    for key in path_of(place):
        held = items_of(tree)
        if held is None or key not in held:
            raise DatasetError(f"there is no {key!r} in a batch that holds {listed(tuple(held or ()))}")
        tree = held[key]
    return tree


def replaced(tree: Any, place: Place, value: Any) -> Any:
    """The like of an item or a batch with another part at `place`; what it was made from stays as it is."""
    path = path_of(place)
    if not path:
        return value
    key, *rest = path
    inner = at(tree, key)
    if rest:
        value = replaced(inner, tuple(rest), value)
    if isinstance(tree, Mapping):
        if type(tree) is dict:
            return tree | {key: value}
        twin = _copy(tree)
        twin[key] = value
        return twin
    if isinstance(tree, tuple | list):
        held = [value if number == key else part for number, part in enumerate(tree)]
        return type(tree)(*held) if hasattr(tree, "_fields") else type(tree)(held)
    return dataclasses.replace(tree, **{str(key): value})


def places_of(tree: Any, thing: Any, path: tuple[Key, ...] = ()) -> Iterator[tuple[Key, ...]]:
    """Where this very object stands in an item, the item itself and its parts, from the top."""
    if tree is thing:
        yield path
        return
    for key, part in (items_of(tree) or {}).items():
        yield from places_of(part, thing, (*path, key))


def leaves_below(tree: Any, place: Place = ()) -> Iterator[tuple[tuple[Key, ...], Any]]:
    """The leaves of what stands at a place, each with its own."""
    part, path = at(tree, place), path_of(place)
    held = items_of(part)
    if held is None:
        yield path, part
    for key in held or ():
        yield from leaves_below(tree, (*path, key))


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """The like of an item with `function` applied to each leaf."""
    held = items_of(tree)
    if held is None:
        return function(tree)
    for key, part in held.items():
        made = mapped(function, part)
        if made is not part:
            tree = replaced(tree, key, made)
    return tree


def nearest(tree: Any, place: Place) -> Any:
    """What stands at a place, or on the way to it where the item does not reach so far: an image that views are made
    of."""
    for key in path_of(place):
        held = items_of(tree)
        if held is None or key not in held:
            break
        tree = held[key]
    return tree


def is_image(leaf: Any) -> bool:
    """Whether a leaf is what an image, or features, come as: neither a number, nor a text, nor a row of integers."""
    if isinstance(leaf, Tensor | np.ndarray):
        whole = not leaf.is_floating_point() if isinstance(leaf, Tensor) else leaf.dtype.kind in "iub"
        return leaf.ndim >= 2 or (leaf.ndim == 1 and not whole)
    return not isinstance(leaf, int | float | str | bytes | type(None) | list | tuple | Mapping)


def is_picture(leaf: Any) -> bool:
    """Whether a leaf is a whole picture, not a table of numbers."""
    return is_image(leaf) and getattr(leaf, "ndim", 3) >= 3


def shape_of(leaf: Any) -> tuple[int, ...] | None:
    """The shape of an input; None for what has none."""
    if isinstance(leaf, Tensor | np.ndarray):
        return tuple(leaf.shape)
    return (len(leaf),) if isinstance(leaf, list | tuple) else None


def size_of(leaf: Any) -> tuple[int, int] | None:
    """Height and width in pixels; None for what is no image."""
    try:
        height, width = image_size(leaf)
    except (HoarfrostError, TypeError, ValueError):
        return None
    return int(height), int(width)


def stand_in(leaf: Any, value: float = 0.0) -> Any:
    """An input of the same kind and shape that takes no memory: one number, shown everywhere."""
    if isinstance(leaf, np.ndarray):
        return np.broadcast_to(np.array(value, leaf.dtype), leaf.shape)
    return torch.full((), value, dtype=leaf.dtype).expand(leaf.shape)


def told_place(place: Place) -> str:
    """For people."""
    return ".".join(map(repr, path_of(place))) or "the item"


def listed(keys: Sequence[Any]) -> str:
    """For messages."""
    return ", ".join(map(repr, keys)) or "nothing"


def _copy(tree: Any) -> Any:
    twin = copy.copy(tree)
    if isinstance(twin, UserDict):
        twin.data = dict(tree.data)  # a copy of its own: `copy` of a subclass may share it
    return twin
