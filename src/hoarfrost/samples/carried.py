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
    except (TypeError, RuntimeError, ValueError, LookupError, AttributeError) as error:
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

    def rest(self, item: Any, place: int = 0) -> Any:
        """An item without its image. Rows of tokens, numbers and texts stay: collating may need them.

        Args:
            place: a number to stand where the image was.
        """
        return self._form.with_main(item, torch.tensor(float(place))) if is_image(self._form.main_of(item)) else item

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

    def called(self, items: Sequence[Any]) -> Any:
        """What the model is called with for a batch of items without their images.

        Raises:
            DatasetError: no such batch can be made, or it does not hold the items one by one, in their order.
        """
        rests = [self.rest(item, place) for place, item in enumerate(items)]
        made = collated(self._collate, rests)
        inputs, other_way = self._form.main_of(made), self._form.main_of(collated(self._collate, rests[::-1]))
        if _tells_order(inputs, len(items)) and not torch.equal(inputs, other_way.flip(0)):
            name = getattr(self._collate, "__name__", type(self._collate).__name__)
            raise DatasetError(
                f"{name} sorts, mixes, draws or drops items: features are stored by sample, so that row n of a batch "
                "must be item n, the same each time. Do that in your loop, on the batch"
            )
        return self._form.call(made)


def _tells_order(inputs: Any, samples: int) -> bool:
    """Whether a batch's inputs are rows of samples; a collate may have laid them out in another way."""
    return isinstance(inputs, Tensor) and (inputs.dim() == 1 or (inputs.dim() > 1 and len(inputs) == samples))
