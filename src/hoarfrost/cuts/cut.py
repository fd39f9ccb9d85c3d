"""A place where a model can be divided."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch

from ..errors import ArgumentError, UnknownCutError

__all__ = ["Cut", "find_cut"]


@dataclass(frozen=True)
class Cut:
    """The output of one call of one module, through which all that the model computes must pass.

    Attributes:
        name: path of the module in the model, as in `layer1` or `features.3`. Where several modules end at the same
            tensor it is the outermost.
        call: which call of that module, from 0.
        index: position among all cuts of the model, from the front, from 0.
        shape: of one sample's features, without the batch dimension.
        dtype: of the features.
        layout: `NCHW` (4 dimensions with the batch), `tokens` (3), `vector` (2) or `other`.
        prefix_flops: forward FLOPs of one sample in front of the cut (a multiply-add counts as two).
        suffix_flops: forward FLOPs of one sample behind it.
        shared_parameters: names of the parameters that both sides read.
        recommended: it ends a block or stage; the others lie inside one or right behind the stem.
        mutated: the model goes on to write into the tensor, so the suffix clones it first.
        aliases: labels of the inner modules that end at the same tensor.
    """

    name: str
    call: int
    index: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    layout: str
    prefix_flops: int
    suffix_flops: int
    shared_parameters: tuple[str, ...]
    recommended: bool
    mutated: bool
    aliases: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`name`, or `name#call` for a later call of the same module."""
        return label(self.name, self.call)

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of one sample's features at their own dtype."""
        return prod(self.shape) * self.dtype.itemsize


def label(name: str, call: int) -> str:
    """How one call of a module is written."""
    return f"{name}#{call}" if call else name


def find_cut(cuts: Sequence[Cut], name: str | int) -> Cut:
    """The cut of that label, alias or index.

    Args:
        cuts: what `find_cuts` gave.
        name: a label (`layer1`, `block#1`), an alias (`layer1.1`), or an index (`3` or `"3"`; names go first).

    Raises:
        UnknownCutError: there is none; the message lists the near names and how many cuts there are.
        ArgumentError: `name` is neither a string nor an integer.
    """
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise ArgumentError(f"find_cut: a name or an index is needed, not {name!r}")
    wanted = str(name)
    by_name = {alias: cut for cut in cuts for alias in cut.aliases} | {cut.label: cut for cut in cuts}
    found = by_name.get(wanted) or {str(cut.index): cut for cut in cuts}.get(wanted)
    if found is not None:
        return found
    near = difflib.get_close_matches(wanted, by_name, n=4, cutoff=0.5)
    first = [cut.label for cut in cuts[:4]]
    hint = f"; near it: {', '.join(near)}" if near else f"; the first: {', '.join(first)}" if first else ""
    raise UnknownCutError(f"there is no cut named {wanted!r} among {len(cuts)}{hint}")
