"""How a data set's items are laid out, and which part of a batch the model is called with."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections import UserDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..cuts import Example
from ..errors import ArgumentError, DatasetError

__all__ = ["Form", "Key", "at", "items_of", "replaced"]

Key = int | str


@dataclass(frozen=True)
class Form:
    """What of an item is the input.

    Attributes:
        arguments: keys of what the model is called with, in an item and in a batch: positions of a tuple, keywords of a
            mapping or a dataclass; empty where an item is the input itself.
        main: the one of them whose place features take behind a freeze.
        target: key of what outputs are compared with, where there is one that can be told.
        named: whether the model is called with the arguments by their names: where its forward takes these.
        pair: whether an item is (input, target), the target a number or a tensor of one shape: then a batch is
            (inputs, targets) and nothing but tensors is carried.
    """

    arguments: tuple[Key, ...]
    main: Key | None
    pair: bool
    target: Key | None = None
    named: bool = False

    @classmethod
    def of(cls, item: Any, model: nn.Module | None = None, told: Key | Sequence[Key] | None = None) -> Form:
        """Read from one item, and from what the model's forward takes.

        Args:
            told: keys of the input, where it is not to be guessed.

        Raises:
            ArgumentError: `told` is no key.
            DatasetError: which part is the input cannot be told; the message says what there is.
        """
        keys = items_of(item)
        if told is not None:
            wanted = (told,) if isinstance(told, int | str) else tuple(told) if isinstance(told, list | tuple) else ()
            if not wanted or not all(isinstance(key, int | str) and not isinstance(key, bool) for key in wanted):
                raise ArgumentError(f"input must be a key of an item, or several, not {told!r}")
            held = () if keys is None else tuple(keys)
            lacking = [key for key in wanted if key not in held]
            if lacking:
                raise DatasetError(f"input={told!r}: an item holds {_listed(held)}, not {_listed(lacking)}")
            pair = wanted == (0,) and isinstance(item, tuple | list) and len(item) == 2 and _is_numeric(item[1])
            return cls(wanted, wanted[0], pair, _target(keys or {}, wanted), _takes(model, wanted))
        if keys is None:
            return cls((), None, False)
        if isinstance(item, tuple | list):
            return cls._of_sequence(item)
        takes = [] if model is None else _parameters(model)
        arguments = tuple(key for key in takes if key in keys)
        if not arguments:
            raise DatasetError(
                f"an item is a {type(item).__name__} of {_listed(tuple(keys))}, of which the model's forward takes "
                f"nothing (it takes {_listed(tuple(takes))}): say which is the input, Freezer(..., input=...)"
            )
        return cls(arguments, arguments[0], False, _target(keys, arguments[:1]), True)

    @classmethod
    def _of_sequence(cls, item: Sequence[Any]) -> Form:
        if len(item) == 2 and is_image(item[0]) and is_image(item[1]) and _alike(item[0], item[1]):
            raise DatasetError(
                "an item is a pair of two images: say which is the input, Freezer(..., input=0) where the second is a "
                "target, input=(0, 1) where the model takes both"
            )
        return cls((0,), 0, len(item) == 2 and _is_numeric(item[1]), _target(dict(enumerate(item)), (0,)))

    def call(self, batch: Any) -> Example:
        """What the model is called with for a batch, as `find_cuts` takes it."""
        if not self.arguments:
            given: Example = batch
            return given
        values = {key: at(batch, key) for key in self.arguments}
        if self.named:
            return {str(key): value for key, value in values.items()}
        return next(iter(values.values())) if len(values) == 1 else tuple(values.values())

    def main_of(self, item: Any) -> Any:
        """The part that features take the place of."""
        return item if self.main is None else at(item, self.main)

    def with_main(self, tree: Any, value: Any) -> Any:
        """An item or a batch with another value in that place."""
        return value if self.main is None else replaced(tree, self.main, value)

    def describe(self) -> str:
        """For people."""
        if self.main is None:
            return "items: the model's input"
        named = ", ".join(map(repr, self.arguments))
        return f"items: the model is called with {named}; features take the place of {self.main!r}, the rest is carried"


def items_of(tree: Any) -> dict[Any, Any] | None:
    """What an item or a batch holds at its top, by position or name; None for a leaf."""
    if isinstance(tree, Mapping):
        return dict(tree.items())
    if isinstance(tree, tuple | list):
        return dict(enumerate(tree))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    return None


def at(tree: Any, key: Key) -> Any:
    """One part of an item or a batch."""
    held = items_of(tree)
    if held is None or key not in held:
        raise DatasetError(f"there is no {key!r} in a batch that holds {_listed(tuple(held or ()))}")
    return held[key]


def replaced(tree: Any, key: Key, value: Any) -> Any:
    """The like of an item or a batch with another part at `key`; what it was made from stays as it is."""
    at(tree, key)
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


def is_image(leaf: Any) -> bool:
    """Whether a leaf is what an image, or features, come as: neither a number, nor a text, nor a row of integers."""
    if isinstance(leaf, Tensor | np.ndarray):
        whole = not leaf.is_floating_point() if isinstance(leaf, Tensor) else leaf.dtype.kind in "iub"
        return leaf.ndim >= 2 or (leaf.ndim == 1 and not whole)
    return not isinstance(leaf, int | float | str | bytes | type(None) | list | tuple | Mapping)


def _copy(tree: Any) -> Any:
    twin = copy.copy(tree)
    if isinstance(twin, UserDict):
        twin.data = dict(tree.data)  # a copy of its own: `copy` of a subclass may share it
    return twin


def _alike(one: Any, other: Any) -> bool:
    """Whether two images are of one kind and size: nothing says then which of them is the input."""
    sizes = [tuple(leaf.shape) if hasattr(leaf, "shape") else getattr(leaf, "size", None) for leaf in (one, other)]
    kinds = [getattr(leaf, "dtype", getattr(leaf, "mode", None)) for leaf in (one, other)]
    return type(one) is type(other) and sizes[0] == sizes[1] and kinds[0] == kinds[1]


def _is_numeric(leaf: Any) -> bool:
    return isinstance(leaf, int | float | Tensor | np.ndarray | np.generic) and not isinstance(leaf, str | bytes)


def _target(held: Mapping[Key, Any], inputs: Sequence[Key]) -> Key | None:
    """The key of the target: by its name, or right behind the inputs of a tuple."""
    names: list[Key] = ["labels", "label", "targets", "target"]
    names += [key for key in held if isinstance(key, int) and key not in inputs][:1]
    return next((name for name in names if name in held and _is_numeric(held[name])), None)


def _takes(model: nn.Module | None, keys: Sequence[Key]) -> bool:
    """Whether a model's forward takes arguments of these names."""
    if model is None or not all(isinstance(key, str) for key in keys):
        return False
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters) or set(keys) <= set(
        _parameters(model)
    )


def _parameters(model: nn.Module) -> list[str]:
    """Names of what a model's forward takes."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in parameters if parameter.kind in named]


def _listed(keys: Sequence[Key]) -> str:
    return ", ".join(map(repr, keys)) or "nothing"
