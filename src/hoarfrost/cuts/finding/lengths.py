"""How long what crosses is for inputs of any length: seen on batches of several lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ..cut import Crossing, Cut, Ragged, place
from ..sandbox.arguments import Arguments, Example, arguments_of
from ..sandbox.pytrees import tensors_in
from ..tracing.sizes import sizes
from ..tracing.trace import Port

__all__ = ["OtherLengths", "Sizes", "lengths_of", "ragged_cuts"]

_TRIED = 2048
"""Lengths among which one is looked for that tells strides apart."""


@dataclass(frozen=True, eq=False)
class OtherLengths:
    """Batches whose inputs are longer or shorter than an example's.

    Attributes:
        example: one such batch.
        lengths: that inputs may have; empty where no other than these two can be had.
        batch: gives a batch of one of them.
    """

    example: Example
    lengths: tuple[int, ...] = ()
    batch: Callable[[int], Example] | None = None

    @classmethod
    def of(cls, other: Example | OtherLengths) -> OtherLengths:
        return other if isinstance(other, OtherLengths) else cls(other)

    def at(self, length: int) -> Example | None:
        """A batch of that length; None where it cannot be had."""
        return None if self.batch is None else self.batch(length)


@dataclass
class Sizes:
    """Shapes of what a model's modules give, by the input's length; it is run on those that are asked for.

    Attributes:
        written: parameters that its own forward writes into.
    """

    model: nn.Module
    other: OtherLengths
    written: Iterable[nn.Parameter] = ()
    _seen: dict[int, tuple[Mapping[Port, tuple[int, ...]], Example] | None] = field(default_factory=dict)

    @property
    def lengths(self) -> tuple[int, ...]:
        return self.other.lengths

    def shape(self, crossing: Crossing, length: int) -> tuple[int, ...] | None:
        """Of one sample of what crosses; None where the model cannot be run on that length."""
        if length not in self._seen:
            self._seen[length] = self._run(length)
        seen = self._seen[length]
        if seen is None:
            return None
        if crossing.is_argument:
            given = arguments_of(seen[1]).get(crossing.source)
            return tuple(given.shape[1:]) if isinstance(given, Tensor) else None
        return seen[0].get((*place(str(crossing.source)), crossing.number))

    def _run(self, length: int) -> tuple[Mapping[Port, tuple[int, ...]], Example] | None:
        batch = self.other.at(length)
        if batch is None:
            return None
        try:
            return sizes(self.model, batch, self.written), batch
        except Exception:  # too short for a model's windows: nothing is to be seen of it alone
            return None


def lengths_of(example: Example, other: Example) -> tuple[int, int] | None:
    """The lengths of the inputs of two batches: sizes of the first argument that differs in one dimension beside the
    batch; None where none does."""
    pairs = zip(tensors_in(Arguments.of(example)), tensors_in(Arguments.of(other)), strict=False)
    for mine, its in pairs:
        axis = _differing([mine.shape[1:], its.shape[1:]])
        if axis is not None:
            return mine.shape[1 + axis], its.shape[1 + axis]
    return None


def ragged_cuts(cuts: Sequence[Cut], others: Sequence[Cut], lengths: tuple[int, int], seen: Sizes) -> list[Cut]:
    """Those cuts that a model has for both lengths, each tensor that crosses with the dimension that grows.

    How long a tensor is must be a `Ragged.of` of the input's length; where it is anything else, twice as long, say, the
    cut is left out. So it is where a tensor that a module gives crosses beside the features and is not laid out as
    they are: of an additive mask nobody knows what stands for padding.

    Args:
        cuts, others: as found on each of two batches.
        lengths: of these batches' inputs.
        seen: of further lengths.
    """
    theirs = {cut.label: cut for cut in others}
    found = []
    for cut in cuts:
        other = theirs.get(cut.label)
        if other is None or len(other.tensors) != len(cut.tensors):
            continue
        pairs = list(zip(cut.tensors, other.tensors, strict=True))
        marks = [_mark(*pair, lengths, seen) for pair in pairs]
        modules = [mark for mark, (mine, _) in zip(marks, pairs, strict=True) if not mine.is_argument]
        if "neither" in marks or len({mark.axis if isinstance(mark, Ragged) else mark for mark in modules}) > 1:
            continue
        ragged = [mark if isinstance(mark, Ragged) else None for mark in marks]
        ruler = next((mark for mark in ragged if mark), None)
        if ruler is not None and ruler.of(lengths[0]) == ruler.of(lengths[1]):
            continue  # what lies in front could not be foretold by it
        beside = tuple(replace(mine, ragged=mark) for mine, mark in zip(cut.others, ragged[1:], strict=True))
        found.append(replace(cut, ragged=ragged[0], others=beside))
    return [replace(cut, index=index) for index, cut in enumerate(found)]


def _mark(mine: Crossing, its: Crossing, lengths: tuple[int, int], seen: Sizes) -> Ragged | str:
    """How a tensor grows with the input; "fixed" where it is of one shape, "neither" where it is not foreseen."""
    if (mine.source, mine.number) != (its.source, its.number) or mine.dtype != its.dtype:
        return "neither"
    if mine.shape is None or its.shape is None:
        return "fixed" if mine.shape == its.shape else "neither"
    shapes = dict(zip(lengths, (mine.shape, its.shape), strict=True))
    for extreme in {min(seen.lengths), max(seen.lengths)} - shapes.keys() if seen.lengths else ():
        shapes |= {extreme: shape} if (shape := seen.shape(mine, extreme)) is not None else {}
    if len(set(shapes.values())) == 1:
        return "fixed"
    axis = _differing(list(shapes.values()))
    if axis is None:
        return "neither"
    known = {length: shape[axis] for length, shape in shapes.items()}
    tried = torch.tensor(seen.lengths[:: -(-len(seen.lengths) // _TRIED) or 1], dtype=torch.int64)
    while True:
        found = _fitting(known)
        length = _telling(found, tried[~torch.isin(tried, torch.tensor([*known]))])
        if length is None:
            break
        shape = seen.shape(mine, length)
        if shape is None:
            tried = tried[tried != length]
        else:
            known[length] = shape[axis]
    # Where none of the lengths tells several apart any is right; the simplest is what another length would show.
    simplest = min(found, key=lambda one: one[1] + abs(one[0]), default=None)
    return "neither" if simplest is None else Ragged(axis, *simplest)


def _fitting(known: Mapping[int, int]) -> list[tuple[int, int]]:
    """All (offset, stride) by which inputs of these lengths become so long."""
    (near, low), (far, high) = min(known.items()), max(known.items())
    apart, grown = far - near, high - low
    if grown < 0:
        return []
    # (grown - 1) * stride < apart < (grown + 1) * stride; beyond the whole range no stride shows anything new.
    most = apart + 1 if grown <= 1 else -(-apart // (grown - 1)) - 1
    found = []
    for stride in range(apart // (grown + 1) + 1, most + 1):
        least = max(its * stride - length for length, its in known.items())
        greatest = min(its * stride - length for length, its in known.items()) + stride - 1
        found += [(offset, stride) for offset in range(least, greatest + 1)]
    return found


def _telling(found: Sequence[tuple[int, int]], lengths: Tensor) -> int | None:
    """The length for which these differ most evenly; None where they agree on all."""
    if len(found) < 2 or not len(lengths):
        return None
    offsets, strides = torch.tensor(found[:: max(1, len(found) // _TRIED)]).T[..., None]
    made = (lengths + offsets) // strides
    largest = torch.stack([(made == value).sum(0) for value in (made.min(0).values, made.median(0).values)]).max(0)
    telling = made.min(0).values < made.max(0).values
    if not telling.any():
        return None
    return int(lengths[torch.where(telling, largest.values, len(made) + 1).argmin()])


def _differing(shapes: Sequence[Sequence[int]]) -> int | None:
    """The only dimension in which shapes differ."""
    if len({len(shape) for shape in shapes}) > 1:
        return None
    axes = [axis for axis, column in enumerate(zip(*shapes, strict=True)) if len(set(column)) > 1]
    return axes[0] if len(axes) == 1 else None
