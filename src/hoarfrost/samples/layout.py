"""The first item of a data set, and what it tells: how items are rendered, and how they are laid out then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.data import IterableDataset

from ..errors import DatasetError
from .form import Form, Input
from .own_transform import PassThrough
from .rendering import Rendering
from .unreadable import Unreadable

__all__ = ["check_count", "check_length", "first_item", "layout_of"]


def check_length(dataset: Any) -> int:
    """How many samples there are; DatasetError where a data set has no length, or fewer than two samples."""
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise DatasetError(
            f"{type(dataset).__name__} has no length: features are stored by sample number, "
            "so a map-style data set with __len__ and __getitem__ is needed"
        )
    if len(dataset) < 2:
        count = len(dataset)
        raise DatasetError(f"the data set has {count} sample{'s' * (count != 1)}; training needs at least 2")
    return len(dataset)


def check_count(dataset: Any, count: int) -> None:
    """Raise DatasetError where a data set that had so many samples has another number of them."""
    if len(dataset) != count:
        raise DatasetError(
            f"{type(dataset).__name__} had {count} samples when the Freezer was made, and has {len(dataset)} now: a "
            "training keeps to the samples that it began with. Close this Freezer, and make a new one for these"
        )


def first_item(dataset: Any, stand_in: PassThrough | None, unreadable: Unreadable) -> Any:
    """As the data set gives it.

    Args:
        stand_in: in the place of its own transform; None: it has none.
        unreadable: what is done where it cannot be read.

    Raises:
        DatasetError: it works on after its own transform.
    """
    try:
        return unreadable.item(dataset, 0)
    except Exception as error:
        if stand_in is None or not stand_in.calls():
            raise
        raise stand_in.refusal(dataset, "works on after it") from error


def layout_of(
    first: Any,
    transform: Any,
    stand_in: PassThrough | None,
    dataset: Any,
    model: nn.Module | None,
    told: Input | None,
    *,
    collated: bool,
    give_back: Callable[[], object],
) -> tuple[Rendering, Form]:
    """How items are rendered, and the form that they have then.

    Args:
        told, model: as `Samples` is told them.
        collated: whether the user has a collate of his own.
        give_back: gives the data set its transform back, where it turns out that it never asks it.
    """

    def form_of(item: Any, views: Input | None = None) -> Form:
        return Form.of(item, model, views if told is None else told, collated=collated)

    if stand_in is not None:
        own = Rendering.own(transform, stand_in, first, dataset)
        if own is not None:
            own.refuse_what_stays_behind(first)
            return own, form_of(own.shown(first), own.views(first))
        # Nobody asks it: then it renders nothing.
        give_back()
        transform = None
    form = form_of(first)
    rendering = Rendering.told(transform, first, form, len(dataset))
    rendering.refuse_what_stays_behind(first)
    if not rendering.calls:
        return rendering, form
    return rendering, form.viewed(rendering.shown(first), model)
