"""What has to be known of torch's operators: which look at shapes alone, which ask for values, which write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["DECISIONS", "SHAPES_FROM_VALUES", "SHAPE_ONLY", "tensors_among", "written"]

# These take a tensor for its shape, dtype and device alone.
SHAPE_ONLY = frozenset(
    f"{stem}{kind}" for stem in ("zeros", "ones", "empty", "full", "rand", "randn") for kind in ("_like",)
) | {"new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided"}
SHAPES_FROM_VALUES = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
# These make Python values, or shapes, from a tensor's values.
DECISIONS = frozenset({"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "unique_dim", "_unique2"})
_WRITERS: dict[Any, bool] = {}  # whether an operator may write into an argument


def tensors_among(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among an operator's arguments or results, which nest at most once."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [item for item in value if isinstance(item, Tensor)]
    return found


def written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors that this call of an operator writes into."""
    if func not in _WRITERS:
        _WRITERS[func] = any(
            (argument.alias_info is not None and argument.alias_info.is_write) or argument.name == "running_mean"
            for argument in func._schema.arguments
        )
    if not _WRITERS[func]:
        return
    schema = func._schema.arguments
    given = {a.name: args[n] if n < len(args) else kwargs.get(a.name) for n, a in enumerate(schema)}
    # Batch norms write their running statistics without declaring it.
    trains = given.get("training") or given.get("train")
    for argument in schema:
        declared = argument.alias_info is not None and argument.alias_info.is_write
        if declared or (trains and argument.name in ("running_mean", "running_var")):
            yield from tensors_among((given[argument.name],))
