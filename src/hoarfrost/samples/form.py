"""How a data set's items are laid out, and which part of a batch the model is called with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..cuts import Crossing, Example, first_tensor
from ..errors import ArgumentError, DatasetError
from .places import Key, Place, at, is_image, is_picture, items_of, listed, path_of, replaced, stand_in, told_place

__all__ = ["Form", "Input"]

Call = Sequence[Key] | Mapping[str, Key]
Input = Key | Mapping[str, Key] | Sequence[Key | Call]
"""Keys of the input as a user says them: one, those of one call, or one row of keys for each call. A mapping says under
which keyword the model takes which."""

TARGETS = ("labels", "label", "targets", "target")
"""What a target is called, in an item and among what a model's forward takes."""


@dataclass(frozen=True)
class Form:
    """What of an item is the input.

    Attributes:
        arguments: places of what the model is called with, in an item and in a batch: positions of a tuple, keywords of
            a mapping or a dataclass; empty where an item is the input itself.
        main: the one of them whose place features take behind a freeze.
        target: key of what outputs are compared with, where there is one that can be told.
        named: whether the model is called with the arguments by their names: where its forward takes these.
        pair: whether an item is (input, target), the target a number or a tensor of one shape: then a batch is
            (inputs, targets) and nothing but tensors is carried.
        further: likewise `arguments` of each further call, where the model is called with several parts of an item, one
            after the other, as with two views of an image; features take the place of the first of each.
        shaped: whether what stands in for an image has its shape, by which a collate pads.
        keywords: of each call those that its arguments are given by, where these are not the names of their places.
        made: whether the collate makes the input: of texts, say. No item holds it, and features take its place in a
            batch alone.
    """

    arguments: tuple[Place, ...]
    main: Place | None
    pair: bool
    target: Key | None = None
    named: bool = False
    further: tuple[tuple[Place, ...], ...] = ()
    shaped: bool = False
    keywords: tuple[tuple[str, ...], ...] = ()
    made: bool = False

    @classmethod
    def of(
        cls, item: Any, model: nn.Module | None = None, told: Input | None = None, *, collated: bool = False
    ) -> Form:
        """Read from one item, and from what the model's forward takes.

        Args:
            told: keys of the input, where it is not to be guessed.
            collated: whether a collate of the user's makes the batch: it may add keys, a mask say, or make the input
                of something else that an item holds.

        Raises:
            ArgumentError: `told` is no key.
            DatasetError: which part is the input cannot be told; the message says what there is.
        """
        keys = items_of(item)
        if told is not None:
            return cls._told(item, keys, told, model, collated)._viewed(item, model)
        if keys is None:
            return cls((), None, False)
        if isinstance(item, tuple | list):
            return cls._of_sequence(item, [] if model is None else _parameters(model))._viewed(item, model)
        takes = [] if model is None else _parameters(model)
        arguments = tuple(key for key in takes if key in keys)
        if not arguments:
            raise DatasetError(
                f"an item is a {type(item).__name__} of {listed(tuple(keys))}, of which the model's forward takes "
                f"nothing (it takes {listed(tuple(takes))}): say which is the input, Freezer(..., input=...)"
            )
        return cls(arguments, arguments[0], False, _target(keys, arguments[:1]), True)._viewed(item, model)

    @classmethod
    def _told(cls, item: Any, keys: dict[Any, Any] | None, told: Any, model: nn.Module | None, collated: bool) -> Form:
        rows = tuple(told) if isinstance(told, list | tuple) else (told,)
        several = bool(rows) and all(isinstance(row, list | tuple | Mapping) and row for row in rows)
        named = several and all(isinstance(row, Mapping) for row in rows)
        if several and not named and any(isinstance(row, Mapping) for row in rows):
            raise ArgumentError(f"input must be mappings for all calls of the model, or for none, not {told!r}")
        keywords = tuple(tuple(map(str, row)) for row in rows) if named else ()
        _check_keywords(told, keywords, model)
        calls = tuple(tuple(row.values() if named else row) for row in rows) if several else (rows,)
        wanted = [key for call in calls for key in call]
        if not wanted or not all(isinstance(key, int | str) and not isinstance(key, bool) for key in wanted):
            raise ArgumentError(f"input must be a key of an item, or several, not {told!r}")
        held = () if keys is None else tuple(keys)
        lacking = [key for key in wanted if key not in held]
        made = collated and any(call[0] in lacking for call in calls)
        if lacking and not collated:
            raise DatasetError(f"input={told!r}: an item holds {listed(held)}, not {listed(lacking)}")
        for key in () if made else (call[0] for call in calls[1:]):
            row = at(item, key)
            if not is_image(row) and getattr(row, "ndim", 0) == 0 and not (collated and isinstance(row, list)):
                kind = type(row).__name__
                raise DatasetError(f"input={told!r}: the model cannot be called with {key!r} for itself, a {kind}")
        pair = wanted == [0] and isinstance(item, tuple | list) and len(item) == 2 and _is_numeric(item[1])
        target = _target(keys or {}, wanted) if len(calls) == 1 else None
        return cls(
            *(calls[0], calls[0][0], pair, target, bool(keywords) or _takes(model, wanted), calls[1:]),
            keywords=keywords,
            made=made,
        )

    @classmethod
    def _of_sequence(cls, item: Sequence[Any], takes: Sequence[str]) -> Form:
        if len(item) == 2 and is_image(item[0]) and is_image(item[1]) and _alike(item[0], item[1]):
            raise DatasetError(
                "an item is a pair of two images: say which is the input, Freezer(..., input=0) where the second is a "
                "target, input=(0, 1) where the model takes both at once, input=((0,), (1,)) where it is called with "
                "each, one after the other"
            )
        if len(item) == 2 and isinstance(item[1], Mapping) and set(takes[1:2]) & set(TARGETS):
            # An image and all that is known of it: a detection model takes both, and computes its losses.
            return cls((0, 1), 0, False)
        return cls((0,), 0, len(item) == 2 and _is_numeric(item[1]), _target(dict(enumerate(item)), (0,)))

    def _viewed(self, item: Any, model: nn.Module | None) -> Form:
        """Where the input is a list of views of an image, the model is called with each; with all of them at once where
        its forward needs so many."""
        if self.made:
            return self
        views = self.main_of(item)
        if not isinstance(views, tuple | list) or not views or not all(map(is_image, views)):
            return self
        within = () if self.main is None else path_of(self.main)
        places = tuple((*within, number) for number in range(len(views)))
        others = self.arguments[1:]
        if 1 < len(views) <= (0 if model is None else _needed(model)):
            return replace(self, arguments=(*places, *others), main=places[0], pair=False)
        further = tuple((place, *others) for place in places[1:])
        target = None if further else self.target
        return replace(
            self,
            arguments=(places[0], *others),
            main=places[0],
            pair=False,
            target=target,
            further=(*further, *self.further),
        )

    def viewed(self, rendered: Any, model: nn.Module | None = None) -> Form:
        """The same form read once more, from the item as the transform made it."""
        tops = [path_of(place)[0] for place in self.arguments if path_of(place)]
        pair = self.arguments == (0,) and isinstance(rendered, tuple | list) and len(rendered) == 2
        target = None if self.further else _target(items_of(rendered) or {}, tops)
        known = replace(self, pair=pair and not self.further and _is_numeric(rendered[1]), target=target)
        return known._viewed(rendered, model)

    def widened(self, batch: Any, model: nn.Module | None) -> Form:
        """With what a collate has added for the model's forward: an attention mask, say."""
        keys = items_of(batch)
        if keys is None or model is None:
            return self
        arguments: tuple[Place, ...] = tuple(key for key in _parameters(model) if key in keys)
        return replace(self, arguments=arguments) if set(self.arguments) < set(arguments) else self

    def call(self, batch: Any) -> Example:
        """What the model is called with for a batch, as `find_cuts` takes it; where it is called several times, at
        first."""
        return self.calls(batch)[0]

    def calls(self, batch: Any) -> list[Example]:
        """The same for each call."""
        return [self._call(batch, *pair) for pair in zip(self.rows, self._names, strict=True)]

    @property
    def rows(self) -> tuple[tuple[Place, ...], ...]:
        """Of each call the places of its arguments."""
        return (self.arguments, *self.further)

    @property
    def _names(self) -> tuple[tuple[str, ...], ...]:
        """Of each call the names of its arguments."""
        return self.keywords or tuple(tuple(str(path_of(place)[0]) for place in row) for row in self.rows)

    def _call(self, batch: Any, arguments: tuple[Place, ...], keywords: tuple[str, ...]) -> Example:
        if not arguments:
            given: Example = batch
            return given
        values = {place: at(batch, place) for place in arguments}
        if not self.further and isinstance(values[arguments[0]], tuple):
            # One entry a sample, as `zip(*items)` makes it: a list says that to whoever divides the model.
            values = {place: list(value) if isinstance(value, tuple) else value for place, value in values.items()}
        names = dict(zip(keywords, values.values(), strict=True))
        if self.named and len(names) == len(values):
            return names
        return next(iter(values.values())) if len(values) == 1 else tuple(values.values())

    @property
    def keyword(self) -> str | None:
        """The main input's name; None where it has none."""
        if self.keywords:
            return self.keywords[0][0]
        return None if self.main is None else str(path_of(self.main)[0])

    @property
    def mains(self) -> tuple[Place, ...]:
        """Of each call the place that features take."""
        return (() if self.main is None else self.main, *(arguments[0] for arguments in self.further))

    def main_of(self, item: Any) -> Any:
        """The part that features take the place of, in the first call."""
        return item if self.main is None else at(item, self.main)

    def main_argument(self, inputs: Example) -> Tensor:
        """The same among what the model is called with, however many arguments come before it."""
        named = inputs.get(self.keyword or "") if isinstance(inputs, Mapping) else None
        return named if isinstance(named, Tensor) else first_tensor(inputs)

    def images_of(self, item: Any) -> list[Place]:
        """Places of the images that the model is called with; a table of numbers beside the main input is none."""
        others = {place: None for arguments in self.rows for place in arguments[1:]}
        mains = dict.fromkeys(self.mains)
        # What a collate adds, a mask say, is in no item.
        pictures = [p for p in others if p not in mains and _holds(item, p) and is_picture(at(item, p))]
        return [*(place for place in mains if not self.made and is_image(at(item, place))), *pictures]

    def without_images(self, item: Any, number: int = 0) -> Any:
        """An item with a number in the place of each image that the model is called with."""
        for place in self.images_of(item):
            shaped = self.shaped and place in self.mains
            held = stand_in(at(item, place), float(number)) if shaped else torch.tensor(float(number))
            item = replaced(item, place, held)
        return item

    def with_features(self, batch: Any, features: Sequence[Any], crossings: Sequence[Crossing] = ()) -> Any:
        """A batch with features in the place of each main input.

        Args:
            features: of each call a tensor, or a tuple of all that crosses.
            crossings: these; an image that the suffix needs again comes back from among them.
        """
        for place, arguments, names, given in zip(self.mains, self.rows, self._names, features, strict=True):
            for crossing, tensor in zip(crossings, given if isinstance(given, tuple) else (), strict=False):
                again = _argument(arguments, names, crossing)
                if (
                    again is not None
                    and again != place
                    and len(crossing.shape or ()) >= 3
                    and _is_row(at(batch, again))
                ):
                    batch = replaced(batch, again, tensor)
            batch = replaced(batch, place, given)
        return batch

    def describe(self) -> str:
        """For people."""
        if self.main is None:
            return "items: the model's input"
        named = "; then with ".join(", ".join(map(told_place, call)) for call in self.rows)
        place = " and ".join(map(told_place, self.mains))
        whole = "batches" if self.made else "items"
        return f"{whole}: the model is called with {named}; features take the place of {place}, the rest is carried"


def _check_keywords(told: Any, calls: Sequence[Sequence[str]], model: nn.Module | None) -> None:
    """Raise ArgumentError where a model does not take them, or calls take features under different ones."""
    takes = [] if model is None else _parameters(model)
    for call in calls:
        if takes and not _takes(model, call):
            lacking = tuple(name for name in call if name not in takes)
            raise ArgumentError(
                f"input={told!r}: the model's forward takes {listed(tuple(takes))}, not {listed(lacking)}"
            )
    firsts = dict.fromkeys(call[0] for call in calls)
    if len(firsts) > 1:
        raise ArgumentError(
            f"input={told!r}: features come under the first keyword of a call, which is {listed(tuple(firsts))}: let "
            "all calls begin with the same one, the model's main input"
        )


def _argument(arguments: tuple[Place, ...], names: tuple[str, ...], crossing: Crossing) -> Place | None:
    """The place of an argument that crosses a cut; None where something else crosses."""
    source = crossing.source
    if not crossing.is_argument:
        return None
    if isinstance(source, int):
        return arguments[source] if source < len(arguments) else None
    return next((place for place, name in zip(arguments, names, strict=True) if name == source), None)


def _holds(item: Any, place: Place) -> bool:
    return path_of(place)[0] in (items_of(item) or {})


def _is_row(numbers: Any) -> bool:
    """Whether a batch has numbers where images were."""
    return isinstance(numbers, Tensor) and numbers.dim() == 1


def _alike(one: Any, other: Any) -> bool:
    """Whether two images are of one kind and size: nothing says then which of them is the input."""
    sizes = [tuple(leaf.shape) if hasattr(leaf, "shape") else getattr(leaf, "size", None) for leaf in (one, other)]
    kinds = [getattr(leaf, "dtype", getattr(leaf, "mode", None)) for leaf in (one, other)]
    return type(one) is type(other) and sizes[0] == sizes[1] and kinds[0] == kinds[1]


def _is_numeric(leaf: Any) -> bool:
    return isinstance(leaf, int | float | Tensor | np.ndarray | np.generic) and not isinstance(leaf, str | bytes)


def _target(held: Mapping[Key, Any], inputs: Sequence[Place]) -> Key | None:
    """The key of the target: by its name, or right behind the inputs of a tuple."""
    names: list[Key] = [*TARGETS]
    names += [key for key in held if isinstance(key, int) and key not in inputs][:1]
    return next((name for name in names if name in held and _is_numeric(held[name])), None)


def _takes(model: nn.Module | None, keys: Sequence[Key]) -> bool:
    """Whether a model's forward takes arguments of these names."""
    if model is None or not all(isinstance(key, str) for key in keys):
        return False
    return any(p.kind == p.VAR_KEYWORD for p in _signature(model)) or set(keys) <= set(_parameters(model))


def _parameters(model: nn.Module) -> list[str]:
    """Names of what a model's forward takes."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in _signature(model) if parameter.kind in named]


def _needed(model: nn.Module) -> int:
    """How many positional arguments a model's forward cannot do without."""
    return sum(p.kind == p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in _signature(model))


def _signature(model: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return []
