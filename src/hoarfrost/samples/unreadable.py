"""Samples that cannot be read: named, counted, and left out of their batches or replaced where that is wanted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset, get_worker_info

from ..distributed import Ranks
from ..errors import DatasetError, HoarfrostError

__all__ = ["Unreadable"]

MISTAKES = (
    *(AssertionError, AttributeError, ImportError, LookupError, MemoryError, NameError, NotImplementedError),
    *(RecursionError, TypeError),
)
"""What a data set raises where its code is wrong; none of these says that a picture cannot be read."""

TRIED, NAMED = 100, 10
"""Samples in a row that may be unreadable; how many are named one by one."""


class Unreadable:
    """Which samples could not be read, and what is done about them.

    A sample that was unreadable once stays so: epochs would differ otherwise. Another one stands in for it wherever
    there must be one, the next that can be read; with "skip" its rows leave their batches on the way out.

    Args:
        then: "error", "skip" or "replace".

    Attributes:
        found: why, by number.
    """

    def __init__(self, then: str = "error") -> None:
        self.then = then
        self.found: dict[int, str] = {}
        self._say: Callable[[dict[str, Any]], None] | None = None

    def tell(self, say: Callable[[dict[str, Any]], None]) -> None:
        """Say each from now on, and those that were found already."""
        self._say = say
        for count, number in enumerate(self.found, 1):
            self._record(number, count)

    def _record(self, number: int, count: int) -> None:
        if self._say is not None:
            reason = self.found[number]
            self._say({"event": "bad_sample", "sample": number, "reason": reason, "then": self.then, "count": count})

    def item(self, dataset: Any, number: int) -> Any:
        """The sample, or what stands in for it.

        Raises:
            DatasetError: it cannot be read, and that is to be an error; or a hundred in a row cannot.
        """
        count = len(dataset)
        for at in ((number + beyond) % count for beyond in range(min(TRIED, count))):
            if at in self.found and self.then != "error":
                continue
            try:
                return _loaded(dataset[at])
            except MISTAKES:
                raise
            except Exception as error:
                reason = _reason(dataset, at, error)
                if self.then == "error":
                    if isinstance(error, HoarfrostError):
                        raise
                    raise DatasetError(f'{reason}; on_bad_sample="skip" or "replace" goes on without it') from error
                self.note({at: reason})
        raise DatasetError(
            f"{min(TRIED, count)} samples in a row cannot be read, from {number} on: {self.found.get(number, '')}"
        )

    def note(self, found: Mapping[int, str]) -> None:
        """Say of each that is new, with its name and how many they are, what is done with it."""
        for number, reason in found.items():
            if number in self.found:
                continue
            self.found[number] = reason
            if get_worker_info() is not None:
                continue  # it is said by the process that asked
            count, done = len(self.found), "leaves out" if self.then == "skip" else "replaces"
            self._record(number, count)
            if count <= NAMED:
                more = "; others are counted in the records" if count == NAMED else ""
                warnings.warn(f"hoarfrost {done} {reason} ({count} so far){more}", stacklevel=2)

    def share(self, ranks: Ranks) -> None:
        """Say each that another rank has met, too; nothing where such a sample is an error."""
        if self.then != "error":
            for found in ranks.gather("unreadable samples", {str(number): why for number, why in self.found.items()}):
                self.note({int(number): why for number, why in found.items()})

    def shown(self, ids: Sequence[int], count: int) -> list[int]:
        """Which samples are read for these, of so many: itself, or the one that stands in for it."""
        if not self.found or self.then == "error":
            return list(ids)
        return [next((at % count for at in range(n, n + count) if at % count not in self.found), n) for n in ids]

    def left(self, ids: Tensor) -> Tensor | None:
        """Which of these samples stay in their batch, bool [n]; None: all of them. Of several, a single one does not:
        batch norms refuse it."""
        if self.then != "skip" or not self.found:
            return None
        stays = torch.tensor([number not in self.found for number in ids.tolist()], dtype=torch.bool)
        if bool(stays.all()):
            return None
        return stays if int(stays.sum()) > 1 else torch.zeros_like(stays)

    def left_of(self, ids: Tensor, items: list[Any]) -> tuple[Tensor, list[Any]]:
        """These samples without those that do not stay."""
        stays = self.left(ids)
        if stays is None:
            return ids, items
        return ids[stays], [item for item, kept in zip(items, stays.tolist(), strict=True) if kept]


def _loaded(item: Any) -> Any:
    """The same, its pictures read: some data sets only open them."""
    for part in _parts(item):
        if isinstance(part, Image.Image):
            part.load()
    return item


def _parts(item: Any) -> Iterator[Any]:
    yield from item if isinstance(item, tuple | list) else item.values() if isinstance(item, Mapping) else (item,)


def _reason(dataset: Any, number: int, error: Exception) -> str:
    """For people: which sample it is, where it lies, and what is wrong with it."""
    name, path = type(dataset).__name__, _path(dataset, number) or getattr(error, "filename", None)
    if isinstance(error, HoarfrostError):
        return f"sample {number} of {name}: {error}"
    where = f" ({path})" if path and str(path) not in str(error) else ""
    return f"sample {number} of {name}{where} cannot be read: {type(error).__name__}: {error}"


def _path(dataset: Any, number: int) -> str | None:
    """Where a sample lies, of data sets that say so as torchvision's do."""
    while isinstance(dataset, Subset):
        dataset, number = dataset.dataset, dataset.indices[number]
    for name in ("samples", "imgs", "paths", "files", "images"):
        try:
            entry = getattr(dataset, name)[number]
        except Exception:  # whatever is there, it is no list of paths
            continue
        first = entry[0] if isinstance(entry, tuple | list) and entry else entry
        if isinstance(first, str) or hasattr(first, "__fspath__"):
            return str(first)
    return None
