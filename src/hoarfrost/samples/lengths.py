"""Inputs of differing lengths: how long each sample is, and tensors without their padding and with it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from ..cuts import Crossing, Ragged, arguments_of, leaves
from ..errors import DatasetError
from .collating import Collate, collated, name_of
from .form import Form
from .places import Place, at, is_image, replaced, shape_of, stand_in

__all__ = ["Lengths", "Rows", "find_lengths", "padded", "unpadded", "why_too_short"]


@dataclass(frozen=True, eq=False)
class Lengths:
    """How long each sample's input is, where inputs differ in length and are padded in each batch.

    Attributes:
        own: int64 [calls, N], of each sample when it is collated alone, at each call of the model.
        axis: of a call's main input in a batch, along which it is padded.
        at_end: whether a sample lies at the end of its row, padding in front of it.
    """

    own: Tensor
    axis: int
    at_end: bool

    @cached_property
    def total(self) -> Tensor:
        """Of each sample over all calls, int64 [N]."""
        return self.own.sum(0)

    def of(self, ids: Tensor, ragged: Ragged, call: int) -> Tensor:
        """How long a tensor that crosses at a call is for these samples, int64 [n]."""
        return ragged.of(self.own[call, ids])

    def without_padding(self, tensor: Tensor, ids: Tensor, ragged: Ragged, call: int) -> Tensor:
        """The entries of these samples, [sum of lengths, ...], of what the model gave for their batch at a call."""
        return unpadded(tensor, ragged.axis, self.of(ids, ragged, call), self.at_end)

    def filled(self, features: Sequence[Any], batch: Any, form: Form) -> list[Any]:
        """Features of each call with their `Rows` as they are in a batch: padded, or the batch's own argument."""
        made = []
        for given, place, inputs in zip(features, form.mains, form.calls(batch), strict=True):
            whole = partial(self._whole, at(batch, place), arguments_of(inputs))
            made.append(tuple(map(whole, given)) if isinstance(given, tuple) else whole(given))
        return made

    def _whole(self, main: Any, called: Mapping[Any, Any], held: Any) -> Any:
        if not isinstance(held, Rows):
            return held
        own = None if held.argument is None else called.get(held.argument)
        return own if isinstance(own, Tensor) and own is not main else self.as_in(main, held)

    def as_in(self, batch: Tensor, rows: Rows) -> Tensor:
        """Rows padded as the main input of their batch is.

        Raises:
            DatasetError: the batch is shorter than one of its samples.
        """
        ragged = rows.ragged
        length = ragged.of(batch.shape[self.axis])
        short = why_too_short(length, int(rows.lengths.max()))
        if short is not None:
            raise DatasetError(short)
        return rows.padded(length, self.at_end)


@dataclass(frozen=True, eq=False)
class Rows:
    """A tensor that crosses, of samples of differing lengths: entries one behind the other, [sum of lengths, ...]."""

    values: Tensor
    lengths: Tensor
    ragged: Ragged
    plain: bool
    """Whether an entry is a single number."""
    argument: int | str | None
    """Of the model, that it is; zeros would be no padding for every mask."""

    @classmethod
    def of(cls, values: Tensor, lengths: Tensor, crossing: Crossing) -> Rows:
        if crossing.ragged is None or crossing.shape is None:
            raise RuntimeError("rows are of what is as long as the input")
        argument = crossing.source if crossing.is_argument else None
        return cls(values, lengths, crossing.ragged, len(crossing.shape) == 1, argument)

    def only(self, stays: Tensor) -> Rows:
        """Those of some samples, bool [n]."""
        entries = torch.repeat_interleave(stays, self.lengths)
        return replace(self, values=self.values[entries.to(self.values.device)], lengths=self.lengths[stays])

    def padded(self, length: int, at_end: bool) -> Tensor:
        """[n, ...], padded with zeros to a length."""
        made = padded(self.values, self.ragged.axis, self.lengths, length, at_end)
        return made[..., 0] if self.plain else made


def why_too_short(batch: int, sample: int) -> str | None:
    """Why a batch of that length cannot hold a sample of that length, in words; None where it can."""
    if batch >= sample:
        return None
    return (
        f"collate_fn gives a batch of length {batch} with a sample of {sample}: a sample is as long as it is when "
        "collated alone, cut it to a length before it is collated"
    )


def unpadded(tensor: Tensor, axis: int, lengths: Tensor, at_end: bool = False) -> Tensor:
    """The entries that are no padding, sample behind sample: [n, ...] to [sum of lengths, ...]; numbers as rows of one.

    Args:
        axis: of a sample's shape, along which it is as long as `lengths` [n] says.
    """
    rows = tensor.movedim(1 + axis, 1)
    rows = rows[..., None] if rows.dim() == 2 else rows
    samples, length = rows.shape[:2]
    return rows.reshape(samples * length, *rows.shape[2:])[_places(lengths, length, at_end).to(tensor.device)]


def padded(rows: Tensor, axis: int, lengths: Tensor, length: int, at_end: bool = False) -> Tensor:
    """The inverse of `unpadded`, with zeros as padding: [sum of lengths, ...] to [n, ...], `length` long."""
    samples, entry = len(lengths), rows.shape[1:]
    if len(rows) == samples * length:
        return rows.reshape(samples, length, *entry).movedim(1, 1 + axis)
    made = rows.new_zeros(samples * length, *entry)
    made[_places(lengths, length, at_end).to(rows.device)] = rows
    return made.view(samples, length, *entry).movedim(1, 1 + axis)


def _places(lengths: Tensor, length: int, at_end: bool) -> Tensor:
    """Where the entries stand in a batch of rows of that length, laid out flat: int64 [sum of lengths]."""
    positions = torch.arange(length)
    inside = positions >= length - lengths[:, None] if at_end else positions < lengths[:, None]
    return inside.flatten().nonzero()[:, 0]


def find_lengths(
    form: Form, collate: Collate, probed: Sequence[Any], every: Callable[[], Sequence[Any]]
) -> Lengths | None:
    """How long each sample is at each call of the model, measured; None where a collate makes all batches of one
    length.

    Whether batches are padded, along which axis and on which side shows in what the collate makes of a short item
    alone, and of the same one beside a long one.

    Args:
        probed: some items.
        every: gives all items, without their images but with what has their shape.

    Raises:
        DatasetError: the collate makes something else of an item beside what it pads where its values are others; or it
            pads several calls' inputs in different ways.
    """
    found = [_padding_of(form, place, collate, probed) for place in form.mains]
    ways = {(padding.axis, padding.at_end) for padding in found if padding is not None}
    if not ways:
        return None
    if len(ways) > 1:
        raise DatasetError(
            f"{name_of(collate)} pads the inputs of several calls of the model along different axes, or on different "
            "sides: pad them alike, or to a fixed length in the data set"
        )
    ((axis, at_end),) = ways
    known = dict(zip(form.mains, found, strict=True))
    alone = [place for place, padding in known.items() if padding is None or padding.own is None]
    rows: dict[Place, list[int]] = {place: [] for place in form.mains}
    for item in every():
        batch = collated(collate, [item]) if alone else None
        for place, padding in known.items():
            if padding is None or padding.own is None:
                rows[place].append(int(at(batch, place).shape[axis]))
            else:
                rows[place].append(_size(at(item, place), padding.own))
    return Lengths(torch.tensor([rows[place] for place in form.mains]), axis, at_end)


@dataclass(frozen=True)
class Padding:
    """How a collate pads the main input of a call.

    Attributes:
        axis: in a batch.
        at_end: whether a sample lies at the end of its row.
        own: the axis of an item's own input that is as long; None where it pads to a multiple, cuts, or makes the input
            of something else, so that only a batch of one tells.
    """

    axis: int
    at_end: bool
    own: int | None


def _padding_of(form: Form, place: Place, collate: Collate, probed: Sequence[Any]) -> Padding | None:
    """None where batches of these items are of one length, or not padded."""

    def batch_of(*items: Any) -> Any:
        return at(collated(collate, [_marked(form, place, item) for item in items]), place)

    shapes = [getattr(batch_of(i), "shape", [None])[1:] if form.made else shape_of(at(i, place)) for i in probed]
    sizes = [tuple(shape) for shape in shapes if shape is not None]
    if len(sizes) < len(shapes) or len(set(sizes)) < 2:
        return None
    along = [axis for axis, column in enumerate(zip(*sizes, strict=False)) if len(set(column)) > 1]
    if len({len(shape) for shape in sizes}) > 1 or len(along) != 1:
        return None
    (own,) = along
    order = sorted(range(len(sizes)), key=lambda number: sizes[number][own])
    short, long = probed[order[0]], probed[order[-1]]
    alone, both = batch_of(short), batch_of(short, long)
    if not isinstance(alone, Tensor) or not isinstance(both, Tensor) or alone.dim() != both.dim():
        return None
    axes = [axis for axis in range(1, alone.dim()) if alone.shape[axis] != both.shape[axis]]
    if len(axes) != 1:
        return None
    (axis,) = axes
    length, wide = alone.shape[axis], both.shape[axis]
    sides = [torch.equal(both[:1].narrow(axis, start, length), alone) for start in (0, wide - length)]
    if not any(sides):
        return None
    if not form.made:
        _check_blind(place, collate, [short, long])
    as_they_are = (length, wide) == (sizes[order[0]][own], sizes[order[-1]][own])
    return Padding(axis, not sides[0], own if as_they_are and not form.made else None)


def _size(leaf: Any, axis: int) -> int:
    shape = shape_of(leaf)
    if shape is None or len(shape) <= axis:
        raise DatasetError(f"an item's input is a {type(leaf).__name__}, where others have a length")
    return shape[axis]


def _marked(form: Form, place: Place, item: Any) -> Any:
    """An item whose input shows where it ends up in a batch."""
    if form.made or not is_image(at(item, place)):
        return item
    return replaced(item, place, stand_in(at(item, place), 1.0))


def _check_blind(place: Place, collate: Collate, items: Sequence[Any]) -> None:
    """Raise DatasetError where a collate makes other things beside the input of other values of the input."""
    if not is_image(at(items[0], place)):
        return
    blind = [replaced(item, place, stand_in(at(item, place))) for item in items]
    made = [leaves(replaced(collated(collate, list(given)), place, None)) for given in (items, blind)]
    for seen, unseen in zip(*made, strict=True):
        both = isinstance(seen, Tensor) and isinstance(unseen, Tensor)
        if both and not torch.equal(seen, unseen):
            raise DatasetError(
                f"{name_of(collate)} looks at the values of the input, {list(seen.shape)} of what it makes differ with "
                "them: behind a freeze there are none. Let it take lengths or a mask from the shape, or from the item"
            )
