"""The user's data set as samples: raw items read by number, rendered under a draw."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, default_collate

from ..augment import Draw, Pipeline, image_size
from ..cache import hash_samples
from ..errors import ArgumentError, DatasetError, HoarfrostError, UnstableDataError

__all__ = ["Frame", "Samples"]

PROBED = 16
"""Samples whose raw bytes stand for the data set's identity, and are read twice to see whether they stay the same."""


_held: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""Data sets without their transform at this moment, by `id`: whoever took over the None left there would train on raw
images."""


@dataclass(frozen=True)
class Frame:
    """Heights and widths in pixels: of the raw images, in which placements count, and of what the model gets."""

    raw: tuple[int, int]
    rendered: tuple[int, int]


class Samples:
    """A map-style data set of (image, target), its transform taken over.

    Args:
        dataset: with `__len__` and `__getitem__` giving (image, target).
        transform: the user's transform. None: the data set's own `transform` attribute is taken over: it is None
            until `close` gives it back. Through a `Subset` it is taken from a copy, since other subsets may share
            the data set underneath.
        workers: processes that read and render ahead; 0 reads in this one.

    Raises:
        DatasetError: no length, fewer than two samples, or items that are no (image, target) pairs.
        UnstableDataError: reading one index twice gives different images.
        ArgumentError: another one holds the data set's transform.
    """

    def __init__(self, dataset: Dataset[Any], transform: Callable[[Any], Any] | None = None, workers: int = 0) -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
            raise DatasetError(
                f"{type(dataset).__name__} has no length: features are stored by sample number, "
                "so a map-style data set with __len__ and __getitem__ is needed"
            )
        if len(dataset) < 2:
            count = len(dataset)
            raise DatasetError(f"the data set has {count} sample{'s' * (count != 1)}; training needs at least 2")
        self._restore: Callable[[], object] = lambda: None
        self.dataset = dataset
        self.workers = workers
        try:
            if transform is None:
                transform = self._take_over(dataset)
            self.pipeline = Pipeline.from_transform(transform)
            self.identity = self._identify()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self.dataset)

    def close(self) -> None:
        """Give the data set its transform back."""
        self._restore()
        self._restore = lambda: None

    def read(self, ids: Iterable[int]) -> tuple[list[Any], Tensor]:
        """Raw items and their targets [B, ...].

        Raises:
            DatasetError: an item is no pair, or the targets are no numbers of one shape.
        """
        items, targets = [], []
        for number in ids:
            pair = self.dataset[number]
            if not isinstance(pair, Sequence) or len(pair) != 2:
                raise DatasetError(
                    f"sample {number} is a {type(pair).__name__}, not a pair (image, target): "
                    "wrap the data set so that dataset[i] gives such a pair"
                )
            items.append(pair[0])
            targets.append(pair[1])
        try:
            collated = default_collate(targets)
        except (TypeError, RuntimeError) as error:
            raise DatasetError(f"targets must be numbers or tensors of one shape: {error}") from error
        if not isinstance(collated, Tensor):
            raise DatasetError(
                f"targets must be numbers or tensors of one shape, not {type(targets[0]).__name__}: "
                "features and targets are stored together"
            )
        return items, collated

    def images(self, ids: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] of samples under a draw, and their targets [B, ...]."""
        items, targets = self.read(ids.tolist())
        return self.pipeline.render(items, ids, draw), targets

    def blank(self) -> Tensor | None:
        """[1, C, H, W], what the transform shows beyond an image's borders; None where it shows nothing there."""
        items, _ = self.read([0])
        return self.pipeline.blank(items[0])

    def frame(self, images: Tensor) -> Frame | None:
        """The sizes behind rendered images [B, C, H, W]; None for what is no image, or for raw sizes that differ."""
        if images.dim() != 4 or len(self._raw_sizes) != 1:
            return None
        (raw,) = self._raw_sizes
        return Frame(raw, (images.shape[-2], images.shape[-1]))

    def stream(self, groups: Sequence[Tensor], draw: Draw) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and targets of several groups of samples, in their order, read ahead by the workers."""
        if not self.workers:
            yield from (self.images(ids, draw) for ids in groups)
            return
        # A generator of its own: the loader seeds its workers, and must not draw from the training's random state.
        loader = DataLoader(
            _Groups(self, groups, draw), batch_size=None, num_workers=self.workers, generator=torch.Generator()
        )
        yield from ((images, targets) for images, targets in loader)

    def _take_over(self, dataset: Any) -> Any:
        if isinstance(dataset, Subset):
            # A validation subset may share the data set underneath: only a copy may lose its transform.
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
            self.dataset = chain[0]
            return _detach_transform(base)[0]
        if _held.get(id(dataset)) is dataset:
            raise ArgumentError(
                f"another Freezer holds the transform of this {type(dataset).__name__}: close() that one first, "
                "or hand the transform over, Freezer(model, dataset, transform=...)"
            )
        transform, restore = _detach_transform(dataset)
        if transform is not None:
            _held[id(dataset)] = dataset
            # Also where nobody calls close: the data set is the user's, and may outlive this object.
            self._restore = weakref.finalize(self, restore)
        return transform

    def _identify(self) -> str:
        """A hash over some samples' raw bytes, each read twice."""
        count = min(PROBED, len(self))
        ids = sorted({round(i * (len(self) - 1) / (count - 1)) for i in range(count)})
        first, targets = self.read(ids)
        for _ in range(2):
            again, _ = self.read(ids)
            for number, one, other in zip(ids, first, again, strict=True):
                if hash_samples([one]) != hash_samples([other]):
                    raise UnstableDataError(
                        f"{type(self.dataset).__name__} gave two different images for index {number}, "
                        "so stored features would freeze one random augmentation for ever. "
                        "Let the data set give unaugmented images, and hand the augmentation over: "
                        "Freezer(model, dataset, transform=...)"
                    )
        self._raw_sizes = {size for item in first if (size := _raw_size(item)) is not None}
        return hash_samples([*first, targets])


def _raw_size(item: Any) -> tuple[int, int] | None:
    try:
        height, width = image_size(item)
    except (HoarfrostError, TypeError, ValueError):
        return None
    return int(height), int(width)


def _detach_transform(dataset: Any) -> tuple[Any, Callable[[], None]]:
    """A data set's own transform, taken off it, and what puts it back."""
    transform = getattr(dataset, "transform", None)
    if transform is None:
        return None, lambda: None
    if not callable(transform):
        raise ArgumentError(f"the data set's transform attribute is a {type(transform).__name__}, not a function")
    dataset.transform = None
    # Some torchvision data sets call a joint transform that holds the same function once more.
    joint = getattr(dataset, "transforms", None)
    inner = getattr(joint, "transform", None)
    if joint is not None and inner is transform:
        joint.transform = None

    def restore() -> None:
        _held.pop(id(dataset), None)
        dataset.transform = transform
        if joint is not None and inner is transform:
            joint.transform = transform

    return transform, restore


class _Groups(Dataset[tuple[Tensor, Tensor]]):
    """Whole batches as the items of a data set, for DataLoader's workers."""

    def __init__(self, samples: Samples, groups: Sequence[Tensor], draw: Draw) -> None:
        self._samples, self._groups, self._draw = samples, groups, draw

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        torch.set_num_threads(1)
        return self._samples.images(self._groups[number], self._draw)
