"""The data that a model is trained on, with all that decides what an epoch shows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DistributedSampler

from ..augment import Border
from ..cache import CacheSpec
from ..cuts import Crossing, Cut, Example, OtherLengths, first_tensor
from ..distributed import Ranks
from ..errors import ArgumentError, DatasetError
from ..settings import Settings
from .dataset import Samples
from .derivation import Deriver, Way, grid_of
from .device import OnDevice
from .form import Input
from .loader import Sampling, UserLoader
from .order import Order, batch_bounds, usable_batch_size
from .parts import Part
from .prefix_source import PrefixSource
from .renditions import Renditions

__all__ = ["EXAMPLES", "TrainingData"]

EXAMPLES = 8
"""Images that cuts are found and verified on."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A data set's samples, the order of its epochs, the random decisions behind its renditions, and where they go."""

    samples: Samples
    order: Order
    renditions: Renditions
    on_device: OnDevice
    batch_size: int
    drop_last: bool = False
    ranks: Ranks = field(default_factory=Ranks)
    """Who trains on them: each epoch's samples are shared among these."""

    @classmethod
    def of(
        cls,
        loader: UserLoader,
        transform: Callable[[Any], Any] | None,
        told: Settings,
        device: torch.device,
        model: nn.Module,
        keys: Input | None = None,
    ) -> TrainingData:
        """Take over a data set and its transform; `close` of the samples gives it back.

        Args:
            model, keys: as `model` and `told` of `Samples`.

        Raises:
            DatasetError, UnstableDataError, ArgumentError: as `Samples`; or the samples cannot be shared among the
                ranks of a process group.
        """
        ranks, workers = Ranks.now(), loader.workers
        if device.type == "cuda" and workers.count:
            workers = replace(workers, pinned=True)  # the device then takes them while it computes
        samples = Samples(
            *(loader.dataset, transform, workers),
            model=model,
            told=keys,
            collate=loader.collate,
            on_bad_sample=told.rendering.on_bad_sample,
        )
        seed, sampler = told.rendering.seed, None if _shares_alike(loader.sampler, ranks) else loader.sampler
        # A loader's own generator is seeded in each process by itself.
        seed_of_order = ranks.lead("the order of samples", lambda: loader.order_seed(seed))
        chunks, views = told.reading.chunks, told.storing.views
        try:
            _check_shared(len(samples), sampler, ranks, told.rendering.on_bad_sample)
            if views.grain == "chunk" and (samples.moving or samples.form.further):
                raise ArgumentError(
                    'views of the grain "chunk" need targets that do not move with their images, and one call of the '
                    'model for each sample: leave it at "sample"'
                )
            sampling = (
                None if sampler is None else Sampling(sampler, len(samples), seed_of_order, batched=loader.batched)
            )
            batch_size = usable_batch_size(told.reading.batch_size, len(samples) // ranks.world)
            order = Order(
                len(samples),
                seed_of_order,
                chunks.size,
                told.reading.window or max(1, batch_size // chunks.size),
                rank=ranks.rank,
                world_size=ranks.world,
                sampling=sampling,
                lengths=None if samples.lengths is None else samples.lengths.total,
                neighbours=chunks.neighbours,
            )
        except BaseException:
            samples.close()
            raise
        return cls(
            samples=samples,
            order=order,
            renditions=Renditions(samples, seed, views, order),
            on_device=OnDevice(device, told.rendering.channels_last),
            batch_size=batch_size,
            drop_last=loader.drop_last,
            ranks=ranks,
        )

    def close(self) -> None:
        """Give the data set its transform back; this process takes no further part in what others decide."""
        self.samples.close()
        self.ranks.close()

    @cached_property
    def example(self) -> Example:
        """What the model is called with for a few samples: enough for batch statistics, few enough to be quick."""
        return self.examples[0]

    @cached_property
    def other_sizes(self) -> tuple[Example, ...]:
        """Likewise at a further call, for each size of inputs that is not that of the first: smaller crops, say. What
        differs in length is of all lengths as it is."""
        if self.samples.lengths is not None:
            return ()
        found: dict[torch.Size, Example] = {}
        for inputs in self.examples:
            found.setdefault(first_tensor(inputs).shape, inputs)
        return tuple(found.values())[1:]

    @cached_property
    def examples(self) -> list[Example]:
        """`example` for each call of the model."""
        draw = self.samples.pipeline.draw(len(self.samples), self.order.seed)
        count = min(EXAMPLES, len(self.samples), max(2, self.batch_size))
        return self.calls(torch.arange(count), draw)

    @cached_property
    def other_lengths(self) -> OtherLengths | None:
        """Likewise two samples of each other length that there is; None where all have one shape."""
        lengths = self.samples.lengths
        if lengths is None:
            return None
        own, draw = lengths.own.flatten(), self.samples.pipeline.draw(len(self.samples), self.order.seed)

        def batch(length: int) -> Example:
            call, sample = divmod(int((own == length).int().argmax()), len(self.samples))
            return self.calls(torch.tensor([sample, sample]), draw)[call]

        here, known = self.samples.form.main_argument(self.example).shape[lengths.axis], sorted(set(own.tolist()))
        # Single entries are special to many a model.
        known = [length for length in known if length > 1 and length != here] or known
        # Clearly another, so that it is so behind a stride too, and yet short: it is looked at more closely.
        target = here / 2 if here / 2 >= known[0] else 2 * here
        other = min(set(known) - {here}, key=lambda length: abs(length - target))
        return OtherLengths(batch(other), tuple(sorted({*known, here} & {*own.tolist()})), batch)

    @cached_property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the images that the model gets; None for what is no image, or where they differ."""
        images = first_tensor(self.example)
        if self.other_sizes or images.dim() != 4 or not self.samples.frames.known:
            return None
        return images.shape[-2], images.shape[-1]

    def images(self, ids: Tensor, draw: Any) -> Example:
        """What the model is called with for samples under a draw, on the device; [B, ...] say."""
        return self.calls(ids, draw)[0]

    def calls(self, ids: Tensor, draw: Any) -> list[Example]:
        """Likewise at each call."""
        return [self.on_device(inputs) for inputs in self.samples.calls(ids, draw)[0]]

    def probe(self, count: int) -> Example:
        """Likewise for so many from all over the data, changed as little as can be, for whoever looks at features."""
        ids = torch.linspace(0, len(self.samples) - 1, min(count, len(self.samples))).long()
        return self.images(ids, self.samples.pipeline.still(len(self.samples)))

    @property
    def steps(self) -> int:
        """Batches of the first epoch; of every one, unless a batch sampler of the user's makes more or fewer."""
        return len(self.bounds(0))

    def bounds(self, epoch: int) -> list[tuple[int, int]]:
        """Where an epoch's batches begin and end; in what is left of it, where parts of it were shown. The batches of
        these keep their numbers, and are empty."""
        sampling, left = self.order.sampling, self.order.left.get(epoch)
        if sampling is not None and sampling.batched and (left is None or left.count):
            ends = list(accumulate(map(len, sampling.batches(epoch))))
            return list(zip([0, *ends], ends, strict=False))
        if left is not None:
            alone = None if sampling is None else len(self.order.shuffled(epoch))
            shares = (self.order.share(epoch), self.order.least(epoch)) if alone is None else (alone, alone)
            # Fewer samples than ranks cannot be shared among them.
            rest = batch_bounds(shares[0], self.batch_size, self.drop_last, shares[1]) if shares[1] else []
            return [(0, 0)] * left.batches + rest
        if sampling is None:
            return batch_bounds(self.order.share(epoch), self.batch_size, self.drop_last, self.order.least(epoch))
        return batch_bounds(len(sampling.ids(epoch)), self.batch_size, self.drop_last)

    def shown(self, epoch: int, parts: Sequence[Part]) -> None:
        """These parts of an epoch were shown: what is left of it is shared among the ranks anew. None: all of it is."""
        self.order.left.pop(epoch, None)
        if parts:
            self.order.left[epoch] = self.order.behind(epoch, parts)

    def live(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """An epoch's batches as the user's loader would give them, in fresh renditions, on the device; None where no
        sample is left of one.

        Args:
            start: batches to skip.
        """
        for batch in self.samples.batch_by_batch(self._groups(epoch)[start:], self.renditions.live(epoch)):
            yield None if batch is None else self.on_device(batch)

    def live_inputs(self, epoch: int) -> Iterator[tuple[Example, Tensor | None]]:
        """What the model is called with in such an epoch, and what its outputs are compared with, on the device; None
        where nothing is."""
        draw = self.renditions.live(epoch)
        groups = [ids for ids in self._groups(epoch) if len(ids)]
        for inputs, targets in self.samples.stream(groups, draw):
            compared = self.samples.compared(self.samples.under(targets, draw))
            yield self.on_device(inputs), None if compared is None else compared.to(self.on_device.device)

    def with_features(
        self, features: Sequence[Any], targets: Tensor, ids: Tensor, crossings: Sequence[Crossing] = ()
    ) -> Any:
        """As `Samples.with_features`, on the device.

        Args:
            ids: whose they are, on the CPU: to ask the device for numbers would be to wait for it.
        """
        if self.samples.form.pair and self.samples.own_collate is None:
            return self.samples.with_features(features, targets)
        whose = targets if self.samples.moving else ids
        return self.on_device(self.samples.with_features(features, whose, crossings))

    def _groups(self, epoch: int) -> list[Tensor]:
        """The samples of each batch of an epoch."""
        ids = self.order.shuffled(epoch)
        return [ids[begin:end] for begin, end in self.bounds(epoch)]

    def describe(self) -> list[str]:
        """What was taken over, and what becomes of each step of the transform, one line each."""
        sampling = self.order.sampling
        return [
            *self.samples.describe(),
            *([] if sampling is None else [sampling.describe()]),
            *(
                []
                if self.ranks.alone
                else [f"each epoch's samples are shared among {self.ranks.world} ranks, none twice"]
            ),
            *self.samples.pipeline.describe(),
        ]

    def source(self, prefix: nn.Module, spec: CacheSpec | None = None) -> PrefixSource:
        """What a prefix gives of the renditions of live epochs."""
        return PrefixSource(
            prefix=prefix,
            samples=self.samples,
            order=self.order,
            spec=spec,
            draw_for=lambda chunk, epoch: self.renditions.live(epoch),
            on_device=self.on_device,
        )

    def deriver(self, cut: Cut, way: Way, blank: Callable[[], Tensor | None]) -> Deriver | None:
        """What makes features of one rendition from another's; None where features or images allow none.

        Args:
            blank: gives the features that unknown cells get in that way.
        """
        grid = None if self.image_size is None else grid_of(cut, self.image_size)
        border: Border | None = blank() if way.border == "blank" else way.border
        if grid is None or border is None:
            return None
        return Deriver(self.samples, self.order, grid, border, way.form)


def _shares_alike(sampler: Any, ranks: Ranks) -> bool:
    """Whether a sampler does what is done here without it: a random share for each rank."""
    return (
        type(sampler) is DistributedSampler
        and sampler.shuffle
        and (sampler.num_replicas, sampler.rank) == (ranks.world, ranks.rank)
    )


def _check_shared(samples: int, sampler: Any, ranks: Ranks, on_bad_sample: str) -> None:
    if ranks.alone:
        return
    if on_bad_sample == "skip":
        raise ArgumentError(
            "on_bad_sample='skip' may leave one of several processes without a batch that the others have, and they "
            "would wait for it: say 'replace'"
        )
    if sampler is not None:
        raise ArgumentError(
            f"{type(sampler).__name__} draws the samples of one process, and {ranks.world} train: leave it out, or "
            "give a DistributedSampler with shuffle=True; each rank is shown its share of every epoch"
        )
    if samples < ranks.world:
        raise DatasetError(f"{samples} samples cannot be shared among {ranks.world} ranks")
