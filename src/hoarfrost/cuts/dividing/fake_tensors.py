"""Tensors without values: what is left of the code in front of a cut runs on them.

A ghost has a shape, a dtype and a device. Operators on ghosts work out shapes and give ghosts. Once the features have
been handed over the gate is closed behind them, and an operator that still asks a ghost for values raises: a division
that loses something fails loudly instead of computing something else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ...errors import InvalidCutError
from ..tracing.operators import DECISIONS, SHAPE_ONLY

__all__ = ["Gate", "Ghost"]

MOST_KNOWN = 1024
FILLS = {"zeros_like": 0, "new_zeros": 0, "ones_like": 1, "new_ones": 1}


class Gate:
    """What the parts of one suffix know together during a call: whether the features were handed over."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.passed = False
        self.worked_out: dict[Any, Any] = {}


class Ghost(Tensor):
    """A tensor of known shape and unknown values."""

    shape_on_meta: Tensor
    gate: Gate
    source: str

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, shape: Tensor, device: torch.device, gate: Gate, source: str) -> Ghost:
        ghost: Ghost = torch.Tensor._make_wrapper_subclass(
            cls, shape.size(), strides=shape.stride(), dtype=shape.dtype, device=device, requires_grad=False
        )
        ghost.shape_on_meta = shape
        ghost.gate = gate
        ghost.source = source
        return ghost

    def _without_values(self, *_: Any, **__: Any) -> Any:
        when = "behind" if self.gate.passed else "in front of"
        raise InvalidCutError(
            f"cut '{self.gate.place}': the model makes Python values of a tensor {list(self.shape)} from "
            f"{self.source} {when} the cut (as .tolist() or .numpy() do), where only its shape is known"
        )

    tolist = numpy = __array__ = __dlpack__ = _without_values

    def __deepcopy__(self, memo: Any) -> Ghost:
        return self  # where a model's own list still holds one

    def __reduce_ex__(self, protocol: Any) -> Any:
        return torch.empty_like(self.shape_on_meta).__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Ghost({list(self.shape)}, from {self.source})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func._overloadpacket.__name__
        ghosts = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Ghost)]
        first = ghosts[0]
        if name in SHAPE_ONLY:
            return _shaped_like(func, name, first, args, kwargs)
        if (first.gate.passed and name not in ("detach", "alias")) or name in DECISIONS:
            when = "behind" if first.gate.passed else "in front of"
            raise InvalidCutError(
                f"cut '{first.gate.place}': {name} reads values of a tensor {list(first.shape)} from "
                f"{first.source} {when} the cut, where only its shape is known"
            )
        if torch.Tag.inplace_view in func.tags:
            raise InvalidCutError(f"cut '{first.gate.place}': {name} reshapes a tensor from {first.source} in place")
        device = torch.device(kwargs["device"]) if kwargs.get("device") is not None else first.device
        # The same shapes give the same shapes: from the second batch on nothing is worked out.
        key = (func, tuple(_shape_key(leaf) for leaf in tree_leaves((args, kwargs))))
        if key not in first.gate.worked_out:
            if len(first.gate.worked_out) >= MOST_KNOWN:
                first.gate.worked_out.clear()  # a number that changes from batch to batch makes a key of each
            first.gate.worked_out[key] = func(*tree_map(_on_meta, args), **tree_map(_on_meta, kwargs))
        out = first.gate.worked_out[key]
        # An in-place operator gives back its own argument: the same ghost, not a new one.
        known = {id(ghost.shape_on_meta): ghost for ghost in ghosts}

        def wrap(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            # Never `or` here: a ghost's truth is a value that it does not have.
            return known[id(leaf)] if id(leaf) in known else Ghost(leaf, device, first.gate, first.source)

        return tree_map(wrap, out)


def _shape_key(leaf: Any) -> Any:
    if isinstance(leaf, Ghost):
        return id(leaf.shape_on_meta)
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.stride(), leaf.dtype
    return type(leaf), leaf


def _on_meta(leaf: Any) -> Any:
    if isinstance(leaf, Ghost):
        return leaf.shape_on_meta
    if isinstance(leaf, Tensor):
        return torch.empty_strided(leaf.size(), leaf.stride(), dtype=leaf.dtype, device="meta")
    return torch.device("meta") if isinstance(leaf, torch.device) else leaf


def _shaped_like(func: Any, name: str, first: Ghost, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A real tensor: its contents depend on a ghost's shape alone."""
    device = torch.device(kwargs.pop("device", None) or first.device)
    empty = func(*tree_map(_on_meta, args), **kwargs, device=torch.device("meta"))
    if name.startswith("rand"):
        draw = torch.rand if name == "rand_like" else torch.randn
        return draw(empty.shape, dtype=empty.dtype, device=device)
    real = torch.empty_strided(empty.size(), empty.stride(), dtype=empty.dtype, device=device)
    if name in ("full_like", "new_full"):
        return real.fill_(args[-1] if "fill_value" not in kwargs else kwargs["fill_value"])
    return real.fill_(FILLS[name]) if name in FILLS else real
