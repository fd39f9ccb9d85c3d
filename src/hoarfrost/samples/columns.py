"""Columns of a data set: where it holds a part of all its items, so that this can be had without reading them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset, default_collate

from ..cache import digest_item

__all__ = ["Column", "TargetColumn", "columns_of", "find_targets", "parts_of"]

_TOGETHER = 1 << 16
_FEW = 16
"""Columns that one attribute may hold: a TensorDataset has its tensors in one."""


@dataclass(frozen=True)
class Column:
    """A sequence that a data set holds, entry i of which tells something of item i.

    Attributes:
        holder: the data set that has it, underneath any `Subset`.
        attribute: its name there; "" where the data set is a list of items itself.
        key: which of several that are held together.
        indices: which entry each item comes from; None: its own.
    """

    holder: Any
    attribute: str
    key: Any = None
    indices: Sequence[int] | None = None

    @property
    def name(self) -> str:
        return self.attribute if self.key is None else f"{self.attribute}[{self.key!r}]"

    @property
    def entries(self) -> Any:
        """The column as it is now."""
        held = getattr(self.holder, self.attribute) if self.attribute else self.holder
        return held if self.key is None else held[self.key]

    def place(self, number: int) -> int:
        """Where item `number` has its entry."""
        return number if self.indices is None else int(self.indices[number])

    def swapped(self, trial: Any, own: int, other: int, seen: list[str] | None = None) -> None:
        """In a copy of the holder let entry `own` be answered with `other`."""
        held = getattr(trial, self.attribute)
        column = _Swapped(held if self.key is None else held[self.key], own, other, self.name, seen)
        if self.key is None:
            made: Any = column
        elif isinstance(held, Mapping):
            made = {**held, self.key: column}
        else:
            made = type(held)(column if number == self.key else part for number, part in enumerate(held))
        trial.__dict__[self.attribute] = made


class _Swapped:
    """A column that answers one index with the entry of another, and is the column itself in all else."""

    def __init__(self, column: Any, own: int, other: int, name: str, seen: list[str] | None) -> None:
        self.__dict__.update(_column=column, _own=own, _other=other, _name=name, _seen=seen)

    def __getitem__(self, index: Any) -> Any:
        single = isinstance(index, (int, np.integer)) or (isinstance(index, Tensor) and index.dim() == 0)
        if single and int(index) % len(self._column) == self._own:
            if self._seen is not None:
                self._seen.append(self._name)
            index = self._other
        return self._column[index]

    def __len__(self) -> int:
        return len(self._column)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._column)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._column, name)


def columns_of(dataset: Any, digests: Mapping[int, Any], digest: Callable[[Any], Any]) -> list[Column]:
    """The columns that a part of the items is seen to come from, through any `Subset`.

    In a copy of the data set one entry is answered with another: the item must become what the other one is. So it is
    tried, not guessed from names; a copy of the labels that nobody reads is none.

    Args:
        digests: of the part, of a few items by number, as they were read.
        digest: item -> likewise.
    """
    base, indices = _base(dataset)
    if type(base) in (list, tuple):
        return [Column(base, "", None, indices)]
    if not isinstance(getattr(base, "__dict__", None), dict) or hasattr(type(base), "__del__"):
        return []
    try:
        found = _candidates(base, indices)
        if not found:
            return []
        pairs = _pairs(digests)
        if not pairs:
            return []
        asked: list[str] = []
        trial, place = _copy(base), found[0].place(pairs[0][0])
        for column in found:
            column.swapped(trial, place, place, asked)
        trial[place]
        found = [column for column in found if column.name in asked]
        return [column for column in found if all(_follows(column, *pair, digests, digest) for pair in pairs)]
    except Exception:  # a data set that cannot be copied or asked so has no columns that we know of
        return []


def _follows(column: Column, own: int, other: int, digests: Mapping[int, Any], digest: Callable[[Any], Any]) -> bool:
    trial = _copy(column.holder)
    column.swapped(trial, column.place(own), column.place(other))
    return bool(digest(trial[column.place(own)]) == digests[other])


def _pairs(digests: Mapping[int, Any]) -> list[tuple[int, int]]:
    """Two pairs of items that differ in the part; fewer where there are none."""
    apart = [(own, other) for own in digests for other in digests if digests[own] != digests[other]]
    return [apart[0], apart[-1]] if len(apart) > 1 else apart


def _base(dataset: Any) -> tuple[Any, Sequence[int] | None]:
    """The data set underneath, and which of its items each item is."""
    indices: Sequence[int] | None = None
    while type(dataset) is Subset:
        own = dataset.indices
        indices = list(own) if indices is None else [own[number] for number in indices]
        dataset = dataset.dataset
    return dataset, indices


def parts_of(entry: Any) -> list[Any]:
    """Keys of what an entry may hold, behind None for the whole of it."""
    if isinstance(entry, Mapping):
        return [None, *entry]
    return [None, *range(min(len(entry), _FEW))] if isinstance(entry, (tuple, list)) else [None]


def _candidates(base: Any, indices: Sequence[int] | None) -> list[Column]:
    samples = len(base)
    found = []
    for name, held in vars(base).items():
        if _is_column(held, samples):
            found.append(Column(base, name, None, indices))
        elif isinstance(held, Mapping) and type(held) is dict and len(held) <= _FEW:
            found += [Column(base, name, key, indices) for key, part in held.items() if _is_column(part, samples)]
        elif type(held) in (list, tuple) and len(held) <= _FEW:
            found += [Column(base, name, key, indices) for key, part in enumerate(held) if _is_column(part, samples)]
    return found


def _is_column(held: Any, samples: int) -> bool:
    if isinstance(held, (Tensor, np.ndarray)):
        return held.ndim > 0 and len(held) == samples
    return type(held) in (list, tuple) and len(held) == samples


def _copy(base: Any) -> Any:
    """A second data set over the same attributes; nothing of it runs but what is asked of it."""
    trial = copy.copy(base)
    if trial is base or trial.__dict__ is base.__dict__:
        raise TypeError("not copied")
    return trial


@dataclass(frozen=True)
class TargetColumn:
    """Targets as a data set has them now, without reading its inputs.

    Attributes:
        part: which part of an entry is the target; None: the entry is.
        through: the data set's own `target_transform`, if it has one.
        dtype: that a batch of them has.
    """

    column: Column
    part: Any
    through: bool
    dtype: torch.dtype
    seen: list[bytes] = field(default_factory=list)
    """A digest of all, as they were last."""

    def entries(self, ids: Sequence[int]) -> list[Any]:
        """The targets of some items, one by one."""
        column = self.column.entries
        told = [column[self.column.place(number)] for number in ids]
        told = told if self.part is None else [entry[self.part] for entry in told]
        change = getattr(self.column.holder, "target_transform", None) if self.through else None
        return told if change is None else [change(entry) for entry in told]

    def changed(self, samples: int) -> bool:
        """Whether it is another than when this was last asked; yes, when it is asked at first."""
        now = digest_item([self.of(ids) for ids in torch.split(torch.arange(samples), _TOGETHER)])
        before = self.seen[:]
        self.seen[:] = [now]
        return before != [now]

    def of(self, ids: Tensor) -> Tensor:
        """The targets of samples as their batch has them, [n, ...]."""
        column = self.column.entries
        if self.part is None and not self.through and isinstance(column, (Tensor, np.ndarray)):
            own = self.column.indices
            places = ids if own is None else torch.as_tensor(own)[ids]
            held = column[places] if isinstance(column, Tensor) else torch.from_numpy(column[places.numpy()])
            return held.detach().cpu().to(self.dtype)
        made: Tensor = default_collate(self.entries(ids.tolist()))
        return made.to(self.dtype)


def find_targets(
    dataset: Any,
    ids: Sequence[int],
    items: Sequence[Any],
    target_of: Callable[[Any], Any],
    digest: Callable[[Any], Any],
) -> TargetColumn | None:
    """The column that items' targets come from and are; None where there is none.

    Args:
        items: those of `ids`, as they were read.
        target_of: item -> its target.
        digest: of a target.
    """
    try:
        wanted = default_collate([target_of(item) for item in items])
    except (TypeError, RuntimeError):
        return None
    if not isinstance(wanted, Tensor):
        return None
    digests = {number: digest(target_of(item)) for number, item in zip(ids, items, strict=True)}
    for column in columns_of(dataset, digests, lambda item: digest(target_of(item))):
        for part in parts_of(column.entries[column.place(ids[0])]):
            for through in (False, True):
                found = TargetColumn(column, part, through, wanted.dtype)
                try:
                    told = found.of(torch.tensor(list(ids)))
                except Exception:  # entries of another kind
                    continue
                if told.shape == wanted.shape and torch.equal(told, wanted):
                    return found
    return None
