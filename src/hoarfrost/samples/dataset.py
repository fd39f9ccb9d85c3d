"""The user's data set as samples: items read by number, their input rendered under a draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from ..augment import STILL, Draw
from ..cache import hash_samples
from ..cuts import Crossing, Example, leaves
from ..errors import DatasetError
from .carried import Carried
from .collating import Collate, collated, collated_targets, name_of
from .compact import compacted, nbytes_of
from .form import Input
from .frame import Frames
from .identity import Identity, digests_to, identity_of, read_alike, spread
from .layout import check_count, check_length, first_item, layout_of
from .lengths import Lengths, find_lengths
from .own_transform import PassThrough, follow, hold, take_over
from .parcel import Parcel
from .places import is_image, nearest, told_place
from .rendered import Rendered, rendered_ahead
from .unreadable import Unreadable
from .workers import Workers

__all__ = ["Samples"]

TRIED = 2
"""Samples that are rendered twice, to see whether one draw gives one rendition."""

PROBED = 16
"""Samples whose raw bytes stand for the data set's identity, and are read twice to see whether they stay the same."""

PROBED_ROWS = 64
"""Rows of tokens that are looked at, to see whether they differ in length."""


class Samples:
    """A map-style data set, its transform taken over.

    Args:
        dataset: with `__len__` and `__getitem__`; an item is (input, target), or any tree of tensors, images, arrays,
            numbers and texts.
        transform: the user's transform, of the input and what moves with it. None: the data set's own `transform` or
            joint `transforms` attribute is taken over: it gives all back as it is until `close` gives it back. Through
            a `Subset` it is taken from a copy, since other subsets may share the data set underneath.
        workers: who reads and renders ahead; a number is that of the processes.
        model: whose forward says which parts of a mapping are the input.
        told: which parts are, where that is not to be guessed.
        collate: makes a batch of items; None: torch's.
        on_bad_sample: what is done about a sample that cannot be read, as in `hoarfrost.settings.Rendering`.

    Raises:
        DatasetError: no length, fewer than two samples, no telling what the input is, or a data set that works on after
            its own transform.
        UnstableDataError: reading one index twice gives different images.
        UnstableTransformError: so does the transform under one draw.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        transform: Callable[[Any], Any] | None = None,
        workers: int | Workers = 0,
        *,
        model: nn.Module | None = None,
        told: Input | None = None,
        collate: Collate | None = None,
        on_bad_sample: str = "error",
    ) -> None:
        self._count = check_length(dataset)
        self._restore: Callable[[], object] = lambda: None
        self.dataset = self._given = dataset
        self.workers = Workers(workers) if isinstance(workers, int) else workers
        self._rest_bytes = 0
        self.unreadable = Unreadable(on_bad_sample)
        self.lengths: Lengths | None = None
        """How long each sample's input is; None where all have one shape."""
        self.own_collate, self.told = collate, told
        self._collate: Collate = collate or default_collate
        try:
            stand_in: PassThrough | None = None
            if transform is None:
                self.dataset, transform, stand_in, self._restore = take_over(dataset, self)
            else:
                self._restore = hold(dataset, self)
            first = first_item(self.dataset, stand_in, self.unreadable)
            self.rendering, self.form = layout_of(
                *(first, transform, stand_in, self.dataset, model, told),
                collated=collate is not None,
                give_back=self.close,
            )
            self.pipeline = self.rendering.pipeline
            made = self.rendering.shown(first)
            renders_more = self.rendering.renders_more(self.form, made)
            self.moving = renders_more and self.pipeline.is_random
            """Whether more than images differs between renditions: then what is carried belongs to one."""
            self.form = replace(self.form, pair=self.form.pair and not renders_more)
            self._plain = self.form.pair or self.rendering.leaves_rests(self.form, made)
            self._whole = collate is not None or not self.form.pair
            """Whether batches are the user's own, of whole items; else they are (inputs, targets)."""
            self.carried = Carried(self.form, self._collate, self._rests)
            self.lengths = self._lengths()
            if collate is not None and told is None and self.form.named and not self.form.further:
                self.form = self.carried.form = self.form.widened(self.carried.batch(torch.arange(2)), model)
            self.identity = self._identify()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._count

    def check_count(self) -> None:
        """Raise DatasetError where the data set has another number of samples than it had."""
        check_count(self._given, self._count)

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
        return [nearest(item, self.form.mains[0]) for item in items], self._targets(ids, items)

    def images(self, ids: Tensor, draw: Draw) -> tuple[Example, Tensor]:
        """What the model is called with for samples under a draw, images [B, C, H, W] say, at its first call; and
        targets [B, ...]."""
        calls, targets = self.calls(ids, draw)
        return calls[0], targets

    def calls(self, ids: Tensor, draw: Draw) -> tuple[list[Example], Tensor]:
        """What the model is called with for samples under a draw, once or several times; and targets [B, ...]."""
        return self._kept(self._rendered(ids, draw, self._keeps), draw)

    def batch(self, ids: Tensor, draw: Draw) -> Any:
        """The batch of samples under a draw as the user's loader would give it."""
        return next(self.batches([ids], draw))

    def arguments(self, ids: Tensor) -> Example:
        """What the model is called with for samples, without their images."""
        return self.form.call(self.carried.batch(ids))

    def with_features(self, features: Sequence[Any], targets: Tensor, crossings: Sequence[Crossing] = ()) -> Any:
        """The user's batch with features in the place of the input.

        Args:
            features: of each call of the model a tensor, or a tuple of all that crosses the cut; `Rows` are padded as
                the batch is.
            targets: that came with the features, as `under` gives them.
            crossings: what crosses.
        """
        if not self._whole:
            return features[0], targets
        batch = self.carried.batch(targets)
        if self.lengths is not None:
            features = self.lengths.filled(features, batch, self.form)
        return self.form.with_features(batch, features, crossings)

    def compared(self, targets: Tensor) -> Tensor | None:
        """What outputs are compared with, [n, ...]: the targets, or what of whole items is one; None where none is.

        Args:
            targets: likewise.
        """
        return self.carried.compared(targets) if self._whole else targets

    def under(self, targets: Tensor, draw: Draw) -> Tensor:
        """The targets of samples as a draw shows them: where something moves with its image, sample numbers become
        what `Carried` is told, [n, 2]."""
        return torch.stack([targets, torch.full_like(targets, draw.seed)], 1) if self.moving else targets

    def describe(self) -> list[str]:
        """What is done with items, one line each."""
        kept = (
            "what moves with an image is kept with each stored rendition of it, in memory: about "
            f"{self._rest_bytes:,} bytes a sample and rendition"
        )
        layout = [] if self.form.pair else [self.form.describe()]
        return [*layout, *self.rendering.describe(), *([kept] if self.moving else [])]

    def blank(self) -> Example | None:
        """What the model is called with for an image [1, C, H, W] of what the transform shows beyond borders; None
        where it shows nothing there."""
        items, _ = self.read([0])
        image = self.pipeline.blank(items[0])
        if image is None or len(self.form.arguments) < 2:
            return image
        given, _ = self.images(torch.tensor([0]), self.rendering.draw(STILL))
        return {**given, str(self.form.keyword): image} if isinstance(given, Mapping) else (image, *given[1:])

    def stream(self, groups: Sequence[Tensor], draw: Draw) -> Iterator[tuple[Example, Tensor]]:
        """`images` of several groups of samples, in their order, read ahead by the workers."""
        for calls, targets in self.stream_calls(groups, draw):
            yield calls[0], targets

    def stream_calls(self, groups: Sequence[Tensor], draw: Draw) -> Iterator[tuple[list[Example], Tensor]]:
        """`calls` of several groups, likewise."""
        for rendered in self._ahead(groups, draw, self._keeps):
            yield self._kept(rendered, draw)

    def stream_told(self, groups: Sequence[Tensor], draw: Draw) -> Iterator[tuple[list[Example], Tensor, str | None]]:
        """`calls` of several groups, likewise, and digests of the samples as they were read, for a journal."""
        for rendered in self._ahead(groups, draw, self._keeps, told=True):
            if self.form.pair and not self._whole:
                shown = self.unreadable.shown(rendered.ids, len(self))
                self.identity = self.identity.checked(torch.tensor(shown), rendered.targets)
            yield *self._kept(rendered, draw), rendered.digests

    def batches(self, groups: Sequence[Tensor], draw: Draw) -> Iterator[Any]:
        """`batch` of several groups, likewise; those of which no sample is left are left out."""
        return (batch for batch in self.batch_by_batch(groups, draw) if batch is not None)

    def batch_by_batch(self, groups: Sequence[Tensor], draw: Draw) -> Iterator[Any]:
        """The same for each group, None where no sample of it is left."""
        # What moves with its image is of use with these images alone.
        for rendered in self._ahead(groups, draw, self._keeps and not self.moving, drop=True):
            if rendered.batch is not None:
                self._kept(rendered, draw)
            yield rendered.batch

    @property
    def _keeps(self) -> bool:
        """Whether there are rests to be remembered: those that differ between renditions, or are not all known yet."""
        return self._whole and (self.moving or len(self.carried) < len(self))

    def _ahead(
        self, groups: Sequence[Tensor], draw: Draw, keep: bool, drop: bool = False, told: bool = False
    ) -> Iterator[Rendered]:
        render = partial(self._rendered, draw=draw, keep=keep, drop=drop, told=told)
        for rendered in rendered_ahead(render, groups, self.workers):
            self.unreadable.note(rendered.unreadable)
            yield rendered

    def calls_told(self, ids: Tensor, draw: Draw) -> tuple[list[Example], Tensor, str | None]:
        """`calls`, and digests of the samples as they were read."""
        rendered = self._rendered(ids, draw, self._keeps, told=True)
        return *self._kept(rendered, draw), rendered.digests

    def _kept(self, rendered: Rendered, draw: Draw) -> tuple[list[Example], Tensor]:
        """What the model is called with, and targets; the rest is remembered by sample."""
        self.frames.note(rendered.ids, rendered.frames)
        if rendered.rests is not None:
            rests = rendered.rests.opened() if isinstance(rendered.rests, Parcel) else rendered.rests
            self.carried.remember(rendered.ids, rests, draw.seed if self.moving else None)
        return self.form.calls(rendered.batch), rendered.targets

    def _rendered(self, ids: Tensor, draw: Draw, keep: bool, drop: bool = False, told: bool = False) -> Rendered:
        items = self._items(ids.tolist())
        if drop:
            ids, items = self.unreadable.left_of(ids, items)
        whose, unread = ids.tolist(), dict(self.unreadable.found)
        if not items:
            return Rendered(whose, None, ids, None, unread)
        # Before anything is rendered: a transform may write into what it gets.
        digests, frames = self.digests(items) if told else None, self.frames.of_items(items)
        if not self._whole:
            targets = self._targets(whose, items)
            inputs = [self.form.main_of(item) for item in items]
            batch = self.pipeline.render(inputs, ids, draw), targets
            return Rendered(whose, batch, targets, None, unread, digests, frames)
        items = self._made(items, ids, draw)
        rests = [compacted(self.form.without_images(item)) for item in items] if keep else None
        return Rendered(whose, collated(self._collate, items), ids, rests, unread, digests, frames)

    def _made(self, items: Sequence[Any], ids: Tensor, draw: Draw) -> list[Any]:
        if self.form.shaped:
            return self.rendering.render_apart(items, ids, draw, self.form)
        return self.rendering.render(items, ids, draw)

    def _rests(self, ids: list[int], seed: int | None) -> list[Any]:
        """The rests of samples that are not in memory: moved from another rendition where that is exact, else rendered
        once more."""
        found: dict[int, Any] = {}
        if seed is not None and self.frames.known:
            for source, held in self.carried.held(ids):
                of = [number for number in held if number not in found]
                moved = self.rendering.moved([held[number] for number in of], source, seed, of, self.frames.of(of))
                found |= {number: rest for number, rest in zip(of, moved, strict=True) if rest is not None}
        lacking = [number for number in ids if number not in found]
        if lacking:
            items = self._items(lacking)
            if not self._plain:
                draw = self.pipeline.still(len(self)) if seed is None else self.rendering.draw(seed)
                items = self._made(items, torch.tensor(lacking), draw)
            found |= {n: self.form.without_images(item) for n, item in zip(lacking, items, strict=True)}
        return [compacted(found[number]) for number in ids]

    def _items(self, ids: Iterable[int]) -> list[Any]:
        items = []
        for number in ids:
            item = self.unreadable.item(self.dataset, number)
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
        return collated_targets([item[1] for item in items])

    def _lengths(self) -> Lengths | None:
        if self.own_collate is None or isinstance(self.form.main, tuple):
            return None
        if self.form.made and self.pipeline.steps:
            raise DatasetError(
                f"{name_of(self.own_collate)} makes the input {told_place(self.form.mains[0])} of something else, on "
                "which no transform can be followed: leave the transform out"
            )
        probed = self._items(spread(len(self), PROBED))
        if self.form.made or not is_image(self.form.main_of(probed[0])):
            probed += self._items(spread(len(self), PROBED_ROWS))
        if self.pipeline.steps and not self.rendering.keeps_shapes(probed, self.form):
            return None

        def every() -> list[Any]:
            parts = torch.split(torch.arange(len(self)), PROBED_ROWS)
            return [item for ids in parts for item in self.carried.items(ids)]

        self.form = self.carried.form = replace(self.form, shaped=True)
        lengths = find_lengths(self.form, self._collate, probed, every)
        self.form = self.carried.form = replace(self.form, shaped=lengths is not None)
        return lengths

    def _identify(self) -> Identity:
        """How the samples are told from others, by some of them, each read three times."""
        ids = spread(len(self), PROBED)
        first = read_alike(self.dataset, self._items, ids, self._hash)
        self.rendering.check(first[:TRIED], ids[:TRIED])
        self.frames = Frames(self.rendering, self.form.mains, self._items, len(self), first)
        given: list[Any] = []
        self._targets(ids, first)  # refused now, not in the middle of an epoch
        if self._whole:
            # Which parts are the input, and what the user's collate makes of them, shape features as well.
            made = first if self._plain else self._made(first, torch.tensor(ids), self.rendering.draw(STILL))
            rests = [compacted(self.form.without_images(item)) for item in made]
            self._rest_bytes = sum(map(nbytes_of, rests)) // len(rests)
            given = [str(self.form.arguments), *self.carried.called(made), *self.rendering.to_config(self.form)]
            given += [str(row) for row in (*self.form.further, *self.form.keywords)]
            given += [] if self.lengths is None else [*self.lengths.own]
        return identity_of(
            self.dataset,
            ids,
            first,
            input_of=self._input,
            target=None if self.moving or self.form.further else 1 if self.form.pair else self.form.target,
            shaped_by=given,
            collate=self.own_collate,
        )

    def refresh(self) -> None:
        """An epoch begins: what the loop has changed of the data set since, targets say, is shown from now on."""
        follow(self.dataset, self._given)
        column = self.identity.today
        if self._whole and column is not None and column.changed(len(self)):
            self.carried.put(self.identity.target, lambda ids: column.entries(self.unreadable.shown(ids, len(self))))

    def targets_now(self, ids: Tensor) -> Tensor | None:
        """The targets of samples as the data set has them now, [n, ...]; None where they are in the items alone."""
        column = self.identity.today
        if self._whole or column is None:
            return None
        return column.of(torch.tensor(self.unreadable.shown(ids.tolist(), len(self))))

    def distrust_targets(self) -> None:
        """The column of targets was seen to be another thing."""
        self.identity = replace(self.identity, trusted=False)

    def read_digests(self, ids: Sequence[int]) -> list[bytes]:
        """Of samples as they are now; another thread may read meanwhile."""
        return [self.identity.digest(item, self._input) for item in self._items(ids)]

    def digests(self, items: Sequence[Any]) -> str:
        return digests_to([self.identity.digest(item, self._input) for item in items])

    def _input(self, item: Any) -> Any:
        return nearest(item, self.form.mains[0])

    def _hash(self, items: Sequence[Any]) -> str:
        """Of whole items, or of their inputs where they are pairs."""
        if not self._whole:
            return hash_samples([self.form.main_of(item) for item in items])
        return hash_samples([leaf for item in items for leaf in leaves(item)])
