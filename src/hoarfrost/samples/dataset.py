"""The user's data set as samples: items read by number, their input rendered under a draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, default_collate

from ..augment import Draw, Pipeline, image_size
from ..cache import hash_samples
from ..cuts import Example, leaves, map_leaves
from ..errors import DatasetError, HoarfrostError, UnstableDataError
from .carried import Carried, Collate, collated
from .form import Form, Key, is_image
from .own_transform import PassThrough, take_over
from .parcel import Parcel
from .workers import Workers

__all__ = ["Frame", "Samples"]

PROBED = 16
"""Samples whose raw bytes stand for the data set's identity, and are read twice to see whether they stay the same."""


@dataclass(frozen=True)
class Frame:
    """Heights and widths in pixels: of the raw images, in which placements count, and of what the model gets."""

    raw: tuple[int, int]
    rendered: tuple[int, int]


@dataclass(frozen=True)
class _Rendered:
    """One batch: as the user's loader would give it; targets [n, ...], or sample numbers where items are no pairs; and
    the items without their images."""

    batch: Any
    targets: Tensor
    rests: list[Any] | Parcel | None = None

    def pin_memory(self) -> _Rendered:
        """The same in page-locked memory; DataLoader calls this by its name."""
        pinned = map_leaves(lambda leaf: leaf.pin_memory() if isinstance(leaf, Tensor) else leaf, self.batch)
        return replace(self, batch=pinned)


class Samples:
    """A map-style data set, its transform taken over.

    Args:
        dataset: with `__len__` and `__getitem__`; an item is (input, target), or any tree of tensors, images, arrays,
            numbers and texts.
        transform: the user's transform, of the input. None: the data set's own `transform` attribute is taken over: it
            gives images back as they are until `close` gives it back. Through a `Subset` it is taken from a copy, since
            other subsets may share the data set underneath.
        workers: who reads and renders ahead; a number is that of the processes.
        model: whose forward says which parts of a mapping are the input.
        told: which parts are, where that is not to be guessed.
        collate: makes a batch of items; None: torch's.

    Raises:
        DatasetError: no length, fewer than two samples, no telling what the input is, or a data set that works on after
            its own transform.
        UnstableDataError: reading one index twice gives different images.
        ArgumentError: another one holds the data set's transform.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        transform: Callable[[Any], Any] | None = None,
        workers: int | Workers = 0,
        *,
        model: nn.Module | None = None,
        told: Key | Sequence[Key] | None = None,
        collate: Collate | None = None,
    ) -> None:
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
        self.workers = Workers(workers) if isinstance(workers, int) else workers
        self.own_collate, self.told = collate, told
        self._collate: Collate = collate or default_collate
        try:
            stand_in: PassThrough | None = None
            if transform is None:
                self.dataset, transform, stand_in, self._restore = take_over(dataset, self)
            first = self._first(stand_in)
            self.form = Form.of(first, model, told)
            self._whole = collate is not None or not self.form.pair
            """Whether batches are the user's own, of whole items; else they are (inputs, targets)."""
            if stand_in is not None:
                if stand_in.calls:
                    stand_in.check(dataset, self.form.main_of(first))
                else:
                    # Nobody asks it: then it renders nothing.
                    self.close()
                    transform = None
            self.pipeline = Pipeline.from_transform(transform)
            self.carried = Carried(self.form, self._collate, self.dataset.__getitem__)
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
        """Raw inputs and their targets [B, ...]; the samples' numbers where items are no pairs.

        Raises:
            DatasetError: an item is laid out otherwise than the first, or the targets are no numbers of one shape.
        """
        items = self._items(ids)
        return [self.form.main_of(item) for item in items], self._targets(ids, items)

    def images(self, ids: Tensor, draw: Draw) -> tuple[Example, Tensor]:
        """What the model is called with for samples under a draw, images [B, C, H, W] say; and targets [B, ...]."""
        return self._kept(ids, self._rendered(ids, draw))

    def batch(self, ids: Tensor, draw: Draw) -> Any:
        """The batch of samples under a draw as the user's loader would give it."""
        rendered = self._rendered(ids, draw)
        self._kept(ids, rendered)
        return rendered.batch

    def with_features(self, features: Any, targets: Tensor) -> Any:
        """The user's batch with features in the place of the input.

        Args:
            targets: that came with the features.
        """
        return self.carried.batch(targets.tolist(), features) if self._whole else (features, targets)

    def compared(self, targets: Tensor) -> Tensor | None:
        """What outputs are compared with, [n, ...]: the targets, or what of whole items is one; None where none is.

        Args:
            targets: as `images` gave them.
        """
        return self.carried.targets(targets.tolist()) if self._whole else targets

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

    def stream(self, groups: Sequence[Tensor], draw: Draw) -> Iterator[tuple[Example, Tensor]]:
        """`images` of several groups of samples, in their order, read ahead by the workers."""
        for ids, rendered in self._ahead(groups, draw):
            yield self._kept(ids, rendered)

    def batches(self, groups: Sequence[Tensor], draw: Draw) -> Iterator[Any]:
        """`batch` of several groups, likewise."""
        for ids, rendered in self._ahead(groups, draw):
            self._kept(ids, rendered)
            yield rendered.batch

    def _ahead(self, groups: Sequence[Tensor], draw: Draw) -> Iterator[tuple[Tensor, _Rendered]]:
        if self.workers.count:
            yield from zip(groups, self.workers.read(_Groups(self, groups, draw)), strict=True)
            return
        for ids in groups:
            rendered = self._rendered(ids, draw)
            yield ids, rendered.pin_memory() if self.workers.pinned else rendered

    def _kept(self, ids: Tensor, rendered: _Rendered) -> tuple[Example, Tensor]:
        """What the model is called with, and targets; the rest is remembered by sample."""
        if rendered.rests is not None:
            rests = rendered.rests
            self.carried.remember(ids.tolist(), rests.opened() if isinstance(rests, Parcel) else rests)
        return self.form.call(rendered.batch), rendered.targets

    def _rendered(self, ids: Tensor, draw: Draw) -> _Rendered:
        items = self._items(ids.tolist())
        targets = self._targets(ids.tolist(), items)
        inputs = [self.form.main_of(item) for item in items]
        if not self._whole:
            return _Rendered((self.pipeline.render(inputs, ids, draw), targets), targets)
        rests = [self.carried.rest(item) for item in items]
        if is_image(inputs[0]):
            images = self.pipeline.render(inputs, ids, draw)
            items = [self.form.with_main(item, image) for item, image in zip(items, images, strict=True)]
        return _Rendered(collated(self._collate, items), targets, rests)

    def _first(self, stand_in: PassThrough | None) -> Any:
        try:
            return self.dataset[0]
        except Exception as error:
            if stand_in is None or not stand_in.calls:
                raise
            raise stand_in.refusal(self.dataset, "works on after it") from error

    def _items(self, ids: Iterable[int]) -> list[Any]:
        items = []
        for number in ids:
            item = self.dataset[number]
            if self.form.pair and (not isinstance(item, Sequence) or len(item) != 2):
                raise DatasetError(
                    f"sample {number} is a {type(item).__name__}, not a pair (image, target): "
                    "wrap the data set so that dataset[i] gives such a pair"
                )
            items.append(item)
        return items

    def _targets(self, ids: Iterable[int], items: Sequence[Any]) -> Tensor:
        if self._whole:
            return torch.tensor(list(ids))
        try:
            targets = default_collate([item[1] for item in items])
        except (TypeError, RuntimeError) as error:
            raise DatasetError(f"targets must be numbers or tensors of one shape: {error}") from error
        if not isinstance(targets, Tensor):
            raise DatasetError(
                f"targets must be numbers or tensors of one shape, not {type(items[0][1]).__name__}: "
                "features and targets are stored together"
            )
        return targets

    def _identify(self) -> str:
        """A hash over some samples' raw bytes, each read twice."""
        count = min(PROBED, len(self))
        ids = sorted({round(i * (len(self) - 1) / (count - 1)) for i in range(count)})
        first = self._items(ids)
        for _ in range(2):
            for number, one, other in zip(ids, first, self._items(ids), strict=True):
                if self._hash([one]) != self._hash([other]):
                    raise UnstableDataError(
                        f"{type(self.dataset).__name__} gave two different images for index {number}, "
                        "so stored features would freeze one random augmentation for ever. "
                        "Let the data set give unaugmented images, and hand the augmentation over: "
                        "Freezer(model, dataset, transform=...)"
                    )
        inputs = [self.form.main_of(item) for item in first]
        self._raw_sizes = {size for item in inputs if (size := _raw_size(item)) is not None}
        if not self._whole:
            return hash_samples([*inputs, self._targets(ids, first)])
        # Which parts are the input, and what the user's collate makes of them, shape features as well.
        given = leaves(self.carried.called(first))
        return hash_samples([*(leaf for item in first for leaf in leaves(item)), str(self.form.arguments), *given])

    def _hash(self, items: Sequence[Any]) -> str:
        """Of whole items, or of their inputs where they are pairs."""
        if not self._whole:
            return hash_samples([self.form.main_of(item) for item in items])
        return hash_samples([leaf for item in items for leaf in leaves(item)])


def _raw_size(item: Any) -> tuple[int, int] | None:
    try:
        height, width = image_size(item)
    except (HoarfrostError, TypeError, ValueError):
        return None
    return int(height), int(width)


class _Groups(Dataset[_Rendered]):
    """Whole batches as the items of a data set, for DataLoader's workers."""

    def __init__(self, samples: Samples, groups: Sequence[Tensor], draw: Draw) -> None:
        self._samples, self._groups, self._draw = samples, groups, draw

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> _Rendered:
        torch.set_num_threads(1)
        rendered = self._samples._rendered(self._groups[number], self._draw)
        return replace(rendered, rests=Parcel(rendered.rests)) if isinstance(rendered.rests, list) else rendered
