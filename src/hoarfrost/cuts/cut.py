"""A place where a model can be divided."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, overload

import torch
from torch import Tensor

from ..errors import ArgumentError, UnknownCutError
from .sandbox.arguments import Key
from .sandbox.compiled import own_name
from .tracing.geometry import Geometry

__all__ = ["Crossing", "Cut", "Ragged", "find_cut", "misshapen"]


@dataclass(frozen=True)
class Ragged:
    """The dimension of a sample's tensor that grows with the input's length, where inputs differ in length.

    For an input of length L it is `(L + offset) // stride` long: so long is what any chain of convolutions, poolings,
    and tokens put in front gives.

    Attributes:
        axis: in the shape of one sample, from 0.
        offset: 1 where a class token is put in front, say.
        stride: 2 behind a convolution that leaves out every other place.
    """

    axis: int
    offset: int = 0
    stride: int = 1

    @overload
    def of(self, length: int) -> int: ...
    @overload
    def of(self, length: Tensor) -> Tensor: ...
    def of(self, length: int | Tensor) -> int | Tensor:
        """How long it is for inputs of that length; none is shorter than nothing."""
        made = (length + self.offset) // self.stride
        return made.clamp(min=0) if isinstance(made, Tensor) else max(0, made)


@dataclass(frozen=True)
class Crossing:
    """One tensor that the suffix needs.

    Attributes:
        source: the label of the module call that gives it; or the key of the model's argument (its position, from 0,
            or its keyword), where the suffix needs an argument again: an attention mask, say.
        number: which tensor of the call's output.
        shape: of one sample, without the batch dimension; None for an argument that is not a single tensor with one.
        dtype: None with it.
        layout: as `Cut.layout`.
        mutated: the model goes on to write into it, so the suffix clones it first.
        ragged: where it grows with the input's length; `shape` has the example's there. None: of one shape always.
    """

    source: Key
    number: int
    shape: tuple[int, ...] | None
    dtype: torch.dtype | None
    layout: str
    mutated: bool
    is_argument: bool = False
    ragged: Ragged | None = None

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of one sample at its own dtype; 0 where the shape is not known."""
        return 0 if self.shape is None or self.dtype is None else prod(self.shape) * self.dtype.itemsize


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
        layout: `NCHW` or `NHWC` (4 dimensions with the batch), `tokens` (3, channels last), `NCL` (3, channels
            first), `vector` (2) or `other`.
        prefix_flops: forward FLOPs of one sample in front of the cut (a multiply-add counts as two).
        suffix_flops: forward FLOPs of one sample behind it.
        shared_parameters: names of the parameters that both sides read.
        recommended: it ends a block or stage; the others lie inside one or right behind the stem.
        mutated: the model goes on to write into the tensor, so the suffix clones it first.
        aliases: labels of the inner modules that end at the same tensor.
        number: which tensor of the module's output the features are.
        others: what else the suffix needs; empty where the features are all.
        geometry: where the grid of features lies on the image; None where there is no grid or no image.
        ragged: where the features grow with the input's length; `shape` has the example's there. None: of one shape
            always.
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
    number: int = 0
    others: tuple[Crossing, ...] = ()
    geometry: Geometry | None = None
    ragged: Ragged | None = None

    @property
    def label(self) -> str:
        """`name`, or `name#call` for a later call of the same module."""
        return label(self.name, self.call)

    @property
    def tensors(self) -> tuple[Crossing, ...]:
        """All that crosses: the features, then the others."""
        features = Crossing(
            self.label, self.number, self.shape, self.dtype, self.layout, self.mutated, ragged=self.ragged
        )
        return (features, *self.others)

    @property
    def rows(self) -> tuple[Crossing, ...]:
        """What of it has a row for each sample, and can be stored; the features first."""
        return tuple(crossing for crossing in self.tensors if crossing.shape is not None)

    @property
    def brought(self) -> tuple[Crossing, ...]:
        """The others: arguments that every call brings itself, such as a list of targets."""
        return tuple(crossing for crossing in self.tensors if crossing.shape is None)

    def rows_of(self, crossing: Tensor | Sequence[Any]) -> tuple[Tensor, ...]:
        """Those of them that have a row for each sample.

        Args:
            crossing: what a prefix gave.
        """
        given = (crossing,) if isinstance(crossing, Tensor) else tuple(crossing)
        return tuple(tensor for tensor, told in zip(given, self.tensors, strict=True) if told.shape is not None)

    @property
    def ruler(self) -> tuple[int, Ragged] | None:
        """The first of `tensors` that grows with the input's length, and where; None where none does."""
        return next(((n, crossing.ragged) for n, crossing in enumerate(self.tensors) if crossing.ragged), None)

    @property
    def single(self) -> bool:
        """Whether nothing but the features crosses, but for arguments that are no floating tensors."""
        return all(
            other.is_argument and (other.dtype is None or not other.dtype.is_floating_point) for other in self.others
        )

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of all that crosses for one sample, at its own dtypes."""
        return sum(crossing.bytes_per_sample for crossing in self.tensors)

    @property
    def channel_axis(self) -> int:
        """Which dimension of a batch of features holds the channels."""
        return len(self.shape) if self.layout in ("NHWC", "tokens") else 1


def misshapen(shape: Sequence[int], crossing: Crossing) -> bool:
    """Whether a sample's tensor of that shape is not the one that crosses, whatever the input's length."""
    wanted = crossing.shape
    if wanted is None or len(shape) != len(wanted):
        return wanted is not None
    free = None if crossing.ragged is None else crossing.ragged.axis
    return any(mine != its for axis, (mine, its) in enumerate(zip(shape, wanted, strict=True)) if axis != free)


def label(name: str, call: int) -> str:
    """How one call of a module is written: as in the model itself, whatever of it is compiled."""
    return f"{own_name(name)}#{call}" if call else own_name(name)


def place(label: str) -> tuple[str, int]:
    """The module's path and the call that a label stands for."""
    name, _, call = label.partition("#")
    return name, int(call or 0)


def find_cut(cuts: Sequence[Cut], name: str | int) -> Cut:
    """The cut of that label, alias or index.

    Args:
        cuts: what `find_cuts` gave.
        name: a label (`layer1`, `block#1`), an alias (`layer1.1`), or an index (`3` or `"3"`; names go first). Of a
            compiled model `_orig_mod.layer1` will do as well.

    Raises:
        UnknownCutError: there is none; the message lists the near names and how many cuts there are.
        ArgumentError: `name` is neither a string nor an integer.
    """
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise ArgumentError(f"find_cut: a name or an index is needed, not {name!r}")
    wanted = own_name(str(name))
    by_name = {alias: cut for cut in cuts for alias in cut.aliases} | {cut.label: cut for cut in cuts}
    found = by_name.get(wanted) or {str(cut.index): cut for cut in cuts}.get(wanted)
    if found is not None:
        return found
    near = difflib.get_close_matches(wanted, by_name, n=4, cutoff=0.5)
    first = [cut.label for cut in cuts[:4]]
    hint = f"; near it: {', '.join(near)}" if near else f"; the first: {', '.join(first)}" if first else ""
    raise UnknownCutError(f"there is no cut named {wanted!r} among {len(cuts)}{hint}")
