"""A data set's own transform, taken over: what it renders is rendered elsewhere, and it gets its transform back."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from torch.utils.data import Subset

from ..errors import ArgumentError, DatasetError

__all__ = ["PassThrough", "take_over"]

_held: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""Data sets without their transform at this moment, by `id`: whoever took over what is left there would train on raw
images."""


class PassThrough:
    """Stands in a data set's transform's place: gives each image back as it is, and remembers the last."""

    def __init__(self) -> None:
        self.calls = 0
        self.last: Any = None

    def __call__(self, image: Any) -> Any:
        self.calls, self.last = self.calls + 1, image
        return image

    def check(self, dataset: Any, shown: Any) -> None:
        """Raise DatasetError where an item's input is not what the transform gave for it.

        Args:
            shown: the input of the item that was read last.
        """
        if self.calls == 1 and shown is self.last:
            return
        times = f"calls its transform {self.calls} times for one item"
        raise self.refusal(dataset, times if self.calls != 1 else "works on after it")

    def refusal(self, dataset: Any, what: str) -> DatasetError:
        """Says what a data set does besides calling its transform, and the way out."""
        name = type(dataset).__name__
        return DatasetError(
            f"{name} has a transform of its own and {what}, so that its images cannot be rendered anew in its place. "
            f"Hand the whole of it over, Freezer(model, dataset, transform=...), and let {name} give images as they are"
        )


def take_over(dataset: Any, holder: object) -> tuple[Any, Any, PassThrough | None, Callable[[], object]]:
    """The data set without its transform, the transform, what stands in its place, and what puts it back.

    Through a `Subset` it is taken from a copy, since other subsets may share the data set underneath.

    Args:
        holder: who takes it over; when that goes, the transform is given back.

    Raises:
        ArgumentError: another one holds the data set's transform.
    """
    if isinstance(dataset, Subset):
        inner = dataset
        chain = [copy.copy(inner)]
        while isinstance(inner.dataset, Subset):
            inner = inner.dataset
            chain.append(copy.copy(inner))
        base: Any = copy.copy(inner.dataset)
        if getattr(base, "transforms", None) is not None:
            base.transforms = copy.copy(base.transforms)
        for outer, nested in zip(chain, [*chain[1:], base], strict=True):
            outer.dataset = nested
        transform, stand_in, _ = _detach(base)
        return chain[0], transform, stand_in, lambda: None
    if _held.get(id(dataset)) is dataset:
        raise ArgumentError(
            f"another Freezer holds the transform of this {type(dataset).__name__}: close() that one first, "
            "or hand the transform over, Freezer(model, dataset, transform=...)"
        )
    transform, stand_in, restore = _detach(dataset)
    if transform is None:
        return dataset, None, None, restore
    _held[id(dataset)] = dataset
    # Also where nobody calls close: the data set is the user's, and may outlive its holder.
    return dataset, transform, stand_in, weakref.finalize(holder, restore)


def _detach(dataset: Any) -> tuple[Any, PassThrough | None, Callable[[], None]]:
    """A data set's own transform, taken off it, what stands there now, and what puts it back."""
    transform = getattr(dataset, "transform", None)
    if transform is None:
        return None, None, lambda: None
    if not callable(transform):
        raise ArgumentError(f"the data set's transform attribute is a {type(transform).__name__}, not a function")
    stand_in = PassThrough()
    dataset.transform = stand_in
    # Some torchvision data sets call a joint transform that holds the same function once more.
    joint = getattr(dataset, "transforms", None)
    inner = getattr(joint, "transform", None)
    if joint is not None and inner is transform:
        joint.transform = stand_in

    def restore() -> None:
        _held.pop(id(dataset), None)
        dataset.transform = transform
        if joint is not None and inner is transform:
            joint.transform = transform

    return transform, stand_in, restore
