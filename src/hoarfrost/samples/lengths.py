"""Inputs of differing lengths: how long each sample is, and tensors without their padding and with it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..cuts import Crossing, Ragged, arguments_of, leaves
from ..errors import DatasetError
from .collating import Collate, collated, name_of
from .form import Form
from .places import is_image, replaced, shape_of, stand_in

__all__ = ["Lengths", "Rows", "find_lengths", "padded", "unpadded", "why_too_short"]


@dataclass(frozen=True, eq=False)
class Lengths:
    """How long each sample's input is, where inputs differ in length and are padded in each batch.

    Attributes:
        own: int64 [N], of each sample when it is collated alone.
        axis: of the main input in a batch, along which it is padded.
        at_end: whether a sample lies at the end of its row, padding in front of it.
    """

    own: Tensor
    axis: int
    at_end: bool

    def of(self, ids: Tensor, ragged: Ragged) -> Tensor:
        """How long a tensor that crosses is for these samples, int64 [n]."""
        return ragged.of(self.own[ids])

    def without_padding(self, tensor: Tensor, ids: Tensor, ragged: Ragged) -> Tensor:
        """The entries of these samples, [sum of lengths, ...], of what the model gave for their batch."""
        return unpadded(tensor, ragged.axis, self.of(ids, ragged), self.at_end)

    def filled(self, features: Sequence[Any], batch: Any, form: Form) -> list[Any]:
        """Features of each call with their `Rows` as they are in a batch: padded, or the batch's own argument."""
        main, called = form.main_of(batch), arguments_of(form.call(batch))

        def whole(held: Any) -> Any:
            if not isinstance(held, Rows):
                return held
            own = None if held.argument is None else called.get(held.argument)
            return own if isinstance(own, Tensor) and own is not main else self.as_in(main, held)

        return [tuple(map(whole, given)) if isinstance(given, tuple) else whole(given) for given in features]

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
    """How long each sample is, measured; None where a collate makes all batches of one length.

    Whether batches are padded, along which axis and on which side shows in what the collate makes of a short item
    alone, and of the same one beside a long one.

    Args:
        probed: some items.
        every: gives all items, without their images but with what has their shape.

    Raises:
        DatasetError: the collate makes something else of an item beside what it pads where its values are others.
    """
    shapes = [shape_of(form.main_of(item)) for item in probed]
    if None in shapes or len(set(shapes)) < 2:
        return None
    sizes = [shape for shape in shapes if shape is not None]
    along = [axis for axis, column in enumerate(zip(*sizes, strict=False)) if len(set(column)) > 1]
    if len({len(shape) for shape in sizes}) > 1 or len(along) != 1:
        return None
    (own,) = along
    order = sorted(range(len(sizes)), key=lambda number: sizes[number][own])
    short, long = probed[order[0]], probed[order[-1]]
    marked = [_marked(form, item) for item in (short, long)]
    alone, both = (form.main_of(collated(collate, items)) for items in (marked[:1], marked))
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
    _check_blind(form, collate, [short, long])
    items = every()
    if (length, wide) == (sizes[order[0]][own], sizes[order[-1]][own]):
        lengths = [_size(form.main_of(item), own) for item in items]
    else:
        # It pads to a multiple, or cuts.
        lengths = [int(form.main_of(collated(collate, [item])).shape[axis]) for item in items]
    return Lengths(torch.tensor(lengths), axis, at_end=not sides[0])


def _size(leaf: Any, axis: int) -> int:
    shape = shape_of(leaf)
    if shape is None or len(shape) <= axis:
        raise DatasetError(f"an item's input is a {type(leaf).__name__}, where others have a length")
    return shape[axis]


def _marked(form: Form, item: Any) -> Any:
    """An item whose input shows where it ends up in a batch."""
    main = form.main_of(item)
    return _with_main(form, item, stand_in(main, 1.0)) if is_image(main) else item


def _with_main(form: Form, tree: Any, value: Any) -> Any:
    return value if form.main is None else replaced(tree, form.main, value)


def _check_blind(form: Form, collate: Collate, items: Sequence[Any]) -> None:
    """Raise DatasetError where a collate makes other things beside the input of other values of the input."""
    if not is_image(form.main_of(items[0])):
        return
    blind = [_with_main(form, item, stand_in(form.main_of(item))) for item in items]
    made = [leaves(_with_main(form, collated(collate, list(given)), None)) for given in (items, blind)]
    for seen, unseen in zip(*made, strict=True):
        both = isinstance(seen, Tensor) and isinstance(unseen, Tensor)
        if both and not torch.equal(seen, unseen):
            raise DatasetError(
                f"{name_of(collate)} looks at the values of the input, {list(seen.shape)} of what it makes differ with "
                "them: behind a freeze there are none. Let it take lengths or a mask from the shape, or from the item"
            )
