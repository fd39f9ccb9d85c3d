"""A data set's own transform, taken over: what it renders is rendered elsewhere, and it gets its transform back."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Subset

from ..errors import ArgumentError, DatasetError

__all__ = ["PassThrough", "follow", "hold", "take_over"]


class PassThrough:
    """Stands in a transform's place: gives all back as it is. For one item it remembers how it was called."""

    def __init__(self) -> None:
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] | None = []

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if self._calls is not None:
            self._calls.append((args, keywords))
        return keywords if not args else args[0] if len(args) == 1 else args

    def remember(self) -> None:
        """How it is called from here on."""
        self._calls = []

    def calls(self) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """How it was called so far; nothing is remembered from here on."""
        calls, self._calls = self._calls or [], None
        return calls

    @staticmethod
    def refusal(dataset: Any, what: str) -> DatasetError:
        """Says what a data set does besides calling its transform, and the way out."""
        name = type(dataset).__name__
        return DatasetError(
            f"{name} has a transform of its own and {what}, so that its images cannot be rendered anew in its place. "
            f"Hand the whole of it over, Freezer(model, dataset, transform=...), and let {name} give images as they are"
        )


@dataclass
class _Held:
    """A data set without its transform, which several may hold together; the last gives it back."""

    dataset: Any
    transform: Any
    stand_in: PassThrough
    restore: Callable[[], object]
    holders: int = 0

    def stands(self) -> bool:
        """Whether the data set still has the stand-in."""
        return any(getattr(self.dataset, name, None) is self.stand_in for name in ("transform", "transforms"))

    def release(self) -> None:
        self.holders -= 1
        if not self.holders:
            if _held.get(id(self.dataset)) is self:
                del _held[id(self.dataset)]
            self.restore()


_held: dict[int, _Held] = {}
"""By the data set's `id`: whoever took over what is left there would train on raw images."""


def take_over(dataset: Any, holder: object) -> tuple[Any, Any, PassThrough | None, Callable[[], object]]:
    """The data set without its transform, the transform, what stands in its place, and what puts it back.

    Through a `Subset` it is taken from a copy, since other subsets may share the data set underneath. Several may hold
    one data set's transform: it is given back when none does any more.

    Args:
        holder: who takes it over; when that goes, the transform is given back.
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
    held = _held.get(id(dataset))
    if held is None or not held.stands():  # nobody's, or the user has given it another since
        transform, stand_in, restore = _detach(dataset)
        if stand_in is None:
            return dataset, None, None, restore
        held = _held[id(dataset)] = _Held(dataset, transform, stand_in, restore)
    held.holders += 1
    held.stand_in.remember()
    # Also where nobody calls close: the data set is the user's, and may outlive its holder.
    return dataset, held.transform, held.stand_in, weakref.finalize(holder, held.release)


def hold(dataset: Any, holder: object) -> Callable[[], object]:
    """Where others hold the data set's transform: hold it too, so that it does not come back beneath this holder.

    Returns:
        What lets it go.
    """
    held = _held.get(id(dataset))
    if held is None or not held.stands():
        return lambda: None
    held.holders += 1
    return weakref.finalize(holder, held.release)


def follow(dataset: Any, given: Any) -> None:
    """What was set on a user's data set since, its copy gets too, but for transforms.

    Args:
        dataset: without its transform.
        given: as the user has it.
    """
    while isinstance(dataset, Subset) and isinstance(given, Subset) and dataset is not given:
        dataset, given = dataset.dataset, given.dataset
    if dataset is not given:
        held = {name: value for name, value in vars(given).items() if name not in ("transform", "transforms")}
        vars(dataset).update(held)


def _detach(dataset: Any) -> tuple[Any, PassThrough | None, Callable[[], None]]:
    """A data set's own transform, taken off it, what stands there now, and what puts it back."""
    transform, joint = getattr(dataset, "transform", None), getattr(dataset, "transforms", None)
    name = "transform"
    if transform is None and joint is not None and not _is_standard(joint):
        # Of image and target together, as torchvision's data sets take it.
        transform, joint, name = joint, None, "transforms"
    if transform is None:
        return None, None, lambda: None
    if not callable(transform):
        raise ArgumentError(f"the data set's {name} attribute is a {type(transform).__name__}, not a function")
    stand_in = PassThrough()
    setattr(dataset, name, stand_in)
    # Some torchvision data sets call a joint transform that holds the same function once more.
    inner = getattr(joint, "transform", None)
    if joint is not None and inner is transform:
        joint.transform = stand_in

    def restore() -> None:
        if getattr(dataset, name, None) is stand_in:  # else the user has given it another since
            setattr(dataset, name, transform)
        if joint is not None and getattr(joint, "transform", None) is stand_in:
            joint.transform = transform

    return transform, stand_in, restore


def _is_standard(joint: Any) -> bool:
    """Whether it calls one function for the image and another for the target."""
    return hasattr(joint, "transform") and hasattr(joint, "target_transform")
