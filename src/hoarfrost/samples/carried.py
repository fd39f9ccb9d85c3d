"""What of a sample is not its input: kept by sample, and given back in the batches that features come in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..errors import DatasetError
from .form import Form, at, is_image

__all__ = ["Carried", "Collate", "collated"]

Collate = Callable[[list[Any]], Any]


def collated(collate: Collate, items: list[Any]) -> Any:
    """A batch of items.

    Raises:
        DatasetError: the user's or torch's collate does not take them.
    """
    try:
        return collate(items)
    except (TypeError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        name = getattr(collate, "__name__", type(collate).__name__)
        raise DatasetError(f"{name} makes no batch of these items: {error}") from error


class Carried:
    """The items of samples that were read, without what features take the place of. In memory, exact.

    Args:
        read: a sample's number -> its item, for one that was not read by this process yet.
    """

    def __init__(self, form: Form, collate: Collate, read: Callable[[int], Any]) -> None:
        self._form, self._collate, self._read = form, collate, read
        self._items: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._items)

    def rest(self, item: Any) -> Any:
        """An item without its image. Rows of tokens, numbers and texts stay: collating may need them."""
        return self._form.with_main(item, torch.zeros(())) if is_image(self._form.main_of(item)) else item

    def remember(self, ids: Sequence[int], rests: Sequence[Any]) -> None:
        """Keep the rests of these samples; the last that was read counts."""
        self._items.update(zip(ids, rests, strict=True))

    def batch(self, ids: Sequence[int], features: Any) -> Any:
        """The user's batch of these samples, with features in the place of the input."""
        return self._form.with_main(collated(self._collate, self.items(ids)), features)

    def items(self, ids: Sequence[int]) -> list[Any]:
        """The rests of these samples."""
        for number in ids:
            if number not in self._items:
                self._items[number] = self.rest(self._read(number))
        return [self._items[number] for number in ids]

    def targets(self, ids: Sequence[int]) -> Tensor | None:
        """What outputs for these samples are compared with, [n, ...]; None where that cannot be told."""
        if self._form.target is None:
            return None
        try:
            made = default_collate([at(item, self._form.target) for item in self.items(ids)])
        except (TypeError, RuntimeError):
            return None
        return made if isinstance(made, Tensor) else None

    def check(self, items: Sequence[Any]) -> None:
        """Raise DatasetError where no batch can be made of items without their images."""
        made = collated(self._collate, [self.rest(item) for item in items])
        self._form.with_main(made, torch.zeros(()))
