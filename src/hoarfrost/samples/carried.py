"""What of a sample is not its input: kept by sample, and given back in the batches that features come in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..cuts import leaves
from ..errors import DatasetError
from .collating import Collate, collated, name_of
from .compact import compacted, is_packed, opened
from .form import Form
from .places import Place, at, replaced

__all__ = ["Carried"]


class Carried:
    """The items of samples that were read, without what features take the place of: their rests. In memory, exact.

    Whose rests are wanted is told as targets are: sample numbers [n]; or, where something moves with its image,
    [n, 2], with the seed of the draw that rendered it.

    Args:
        make: numbers of samples, and a seed or None -> their rests, which are not in memory yet.
    """

    def __init__(self, form: Form, collate: Collate, make: Callable[[list[int], int | None], list[Any]]) -> None:
        self.form, self._collate, self._make = form, collate, make
        self._rests: dict[int | None, dict[int, Any]] = {}
        self._packed = False

    def __len__(self) -> int:
        return len(self._rests.get(None, ()))

    def remember(self, ids: Sequence[int], rests: Sequence[Any], seed: int | None = None) -> None:
        """Keep the rests of these samples, compacted; the last that was read counts."""
        self._rests.setdefault(seed, {}).update(zip(ids, rests, strict=True))
        self._packed = self._packed or any(map(is_packed, rests))

    def put(self, place: Place | None, values: Callable[[list[int]], list[Any]]) -> None:
        """What stands at a place of all rests in memory is another by now.

        Args:
            values: numbers of samples -> what stands there.
        """
        if place is None:
            return
        for rests in self._rests.values():
            ids = list(rests)
            for number, value in zip(ids, values(ids), strict=True):
                rest = opened(rests[number])
                rests[number] = compacted(replaced(rest, place, _as(at(rest, place), value)))

    def forget(self, seed: int) -> None:
        """What this draw rendered is not shown any more."""
        self._rests.pop(seed, None)

    def held(self, ids: Sequence[int]) -> list[tuple[int, dict[int, Any]]]:
        """Other renditions of samples: the seed of each, and what is kept of them, as it was."""
        known = [(seed, rests) for seed, rests in list(self._rests.items()) if seed is not None]
        found = [(seed, {n: opened(rests[n]) for n in ids if n in rests}) for seed, rests in known]
        return [(seed, some) for seed, some in found if some]

    def batch(self, targets: Tensor) -> Any:
        """The user's batch of these samples, with whatever stands where the input was."""
        return collated(self._collate, self.items(targets))

    def items(self, targets: Tensor) -> list[Any]:
        """The rests of these samples, as they were."""
        wanted = [(number, None) for number in targets.tolist()] if targets.dim() == 1 else targets.tolist()
        for seed in {seed for _, seed in wanted}:
            rests = self._rests.get(seed, {})
            lacking = [n for n, its in dict.fromkeys(map(tuple, wanted)) if its == seed and n not in rests]
            if lacking:
                self.remember(lacking, self._make(lacking, seed), seed)
        found = [self._rests[seed][number] for number, seed in wanted]
        return [opened(rest) for rest in found] if self._packed else found

    def compared(self, targets: Tensor) -> Tensor | None:
        """What outputs for these samples are compared with, [n, ...]; None where that cannot be told."""
        if self.form.target is None:
            return None
        try:
            made = default_collate([at(item, self.form.target) for item in self.items(targets)])
        except (TypeError, RuntimeError):
            return None
        return made if isinstance(made, Tensor) else None

    def called(self, items: Sequence[Any]) -> list[Any]:
        """Leaves of what the model is called with for a batch of items without their images.

        Raises:
            DatasetError: no such batch can be made, or it does not hold the items one by one, in their order.
        """
        rests = [self.form.without_images(item, place) for place, item in enumerate(items)]
        made = collated(self._collate, rests)
        inputs, other_way = self.form.main_of(made), self._inputs_of(rests[::-1])
        if _tells_order(inputs, len(items)):
            # What pairs items from both ends does so in the other order too; of fewer it pairs others.
            fewer = rests[: len(items) // 2] if len(items) > 3 else rests
            if not _rows_alike(inputs, other_way) or not _begins_with(inputs, self._inputs_of(fewer)):
                raise DatasetError(
                    f"{name_of(self._collate)} sorts, mixes, draws or drops items: features are stored by sample, so "
                    "that row n of a batch must be item n, the same each time. Do that in your loop, on the batch; "
                    "where items are (input, target), MixUp and CutMix are Freezer(..., mix=...)"
                )
        return leaves(self.form.calls(made))

    def _inputs_of(self, rests: list[Any]) -> Any:
        return self.form.main_of(collated(self._collate, rests))


def _rows_alike(inputs: Any, reversed_inputs: Any) -> bool:
    pairs = zip(inputs, reversed(reversed_inputs), strict=True)
    return len(inputs) == len(reversed_inputs) and all(torch.equal(one, other) for one, other in pairs)


def _begins_with(inputs: Any, fewer: Any) -> bool:
    """Whether the rows of fewer items are the first ones of all; rows of another length, padded to another, are not
    compared."""
    pairs = zip(inputs, fewer, strict=False)
    return all(one.shape != other.shape or torch.equal(one, other) for one, other in pairs)


def _tells_order(inputs: Any, samples: int) -> bool:
    """Whether a batch's inputs are rows of samples; a collate may have laid them out in another way."""
    if isinstance(inputs, tuple | list):
        return len(inputs) == samples and all(isinstance(entry, Tensor) for entry in inputs)
    return isinstance(inputs, Tensor) and (inputs.dim() == 1 or (inputs.dim() > 1 and len(inputs) == samples))


def _as(old: Any, value: Any) -> Any:
    """A value in the form in which another one came."""
    if isinstance(old, Tensor):
        return torch.as_tensor(value).to(old.dtype).reshape(old.shape)
    if isinstance(old, np.ndarray):
        return np.asarray(value, old.dtype).reshape(old.shape)
    if isinstance(old, (int, float, np.generic)):
        return type(old)(value)
    return value
