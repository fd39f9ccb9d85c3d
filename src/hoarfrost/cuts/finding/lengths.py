"""Which dimension of what crosses is as long as the input: seen on two batches whose inputs differ in length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..cut import Crossing, Cut, Ragged
from ..sandbox.arguments import Arguments, Example
from ..sandbox.pytrees import tensors_in

__all__ = ["lengths_of", "ragged_cuts"]


def lengths_of(example: Example, other: Example) -> tuple[int, int] | None:
    """The lengths of the inputs of two batches: sizes of the first argument that differs in one dimension beside the
    batch; None where none does."""
    pairs = zip(tensors_in(Arguments.of(example)), tensors_in(Arguments.of(other)), strict=False)
    for mine, its in pairs:
        axis = _differing(mine.shape[1:], its.shape[1:])
        if axis is not None:
            return mine.shape[1 + axis], its.shape[1 + axis]
    return None


def ragged_cuts(cuts: Sequence[Cut], others: Sequence[Cut], lengths: tuple[int, int]) -> list[Cut]:
    """Those cuts that a model has for both lengths, each tensor that crosses with the dimension that changes.

    A tensor may be as long as the input, or longer by some entries; where it is anything else, half as long for one,
    the cut is left out. So it is where a tensor that a module gives crosses beside the features and is not laid out as
    they are: of an additive mask nobody knows what stands for padding.

    Args:
        cuts, others: as found on each of two batches.
        lengths: of these batches' inputs.
    """
    theirs = {cut.label: cut for cut in others}
    found = []
    for cut in cuts:
        other = theirs.get(cut.label)
        if other is None or len(other.tensors) != len(cut.tensors):
            continue
        pairs = list(zip(cut.tensors, other.tensors, strict=True))
        marks = [_mark(*pair, lengths) for pair in pairs]
        modules = [mark for mark, (mine, _) in zip(marks, pairs, strict=True) if not mine.is_argument]
        if "neither" in marks or len({mark.axis if isinstance(mark, Ragged) else mark for mark in modules}) > 1:
            continue
        ragged = [mark if isinstance(mark, Ragged) else None for mark in marks]
        beside = tuple(replace(mine, ragged=mark) for mine, mark in zip(cut.others, ragged[1:], strict=True))
        found.append(replace(cut, ragged=ragged[0], others=beside))
    return [replace(cut, index=index) for index, cut in enumerate(found)]


def _mark(mine: Crossing, its: Crossing, lengths: tuple[int, int]) -> Ragged | str:
    """Where a tensor is as long as the input; "fixed" where it is of one shape, "neither" where it is not foreseen."""
    if (mine.source, mine.number) != (its.source, its.number) or mine.dtype != its.dtype:
        return "neither"
    if mine.shape is None or mine.shape == its.shape:
        return "fixed"
    axis = None if its.shape is None else _differing(mine.shape, its.shape)
    if axis is None or its.shape is None:
        return "neither"
    more = mine.shape[axis] - lengths[0]
    return Ragged(axis, more) if more >= 0 and its.shape[axis] - lengths[1] == more else "neither"


def _differing(mine: Sequence[int], its: Sequence[int]) -> int | None:
    """The only dimension in which two shapes differ."""
    if len(mine) != len(its):
        return None
    axes = [axis for axis, (a, b) in enumerate(zip(mine, its, strict=True)) if a != b]
    return axes[0] if len(axes) == 1 else None
