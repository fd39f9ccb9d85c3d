"""A user's DataLoader, read: its data set, its batches, and which samples an epoch shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, default_collate

from ..augment import find_states, forked_random_states, seed_random_states
from ..errors import ArgumentError, DatasetError
from ..seeds import mix
from .collating import Collate
from .workers import Workers

__all__ = ["Sampling", "UserLoader"]


class Sampling:
    """The samples of each epoch, and their order, as a sampler of the user's draws them: a pure function of the epoch.

    Args:
        sampler: gives sample numbers, or lists of them, one a batch.
        samples: in the data set.
        seed: of what it draws from torch's, numpy's and Python's random states, and from a generator of its own.

    Raises:
        DatasetError: it has no length.
    """

    def __init__(self, sampler: Iterable[Any], samples: int, seed: int, *, batched: bool) -> None:
        if not hasattr(sampler, "__len__"):
            raise DatasetError(
                f"{type(sampler).__name__} has no length, so that an epoch has none: give it __len__, the number of "
                f"{'batches' if batched else 'samples'} of an epoch"
            )
        self._sampler, self._samples, self._seed, self.batched = sampler, samples, seed, batched
        self._drawn: tuple[int, list[list[int]]] | None = None

    def batches(self, epoch: int) -> list[list[int]]:
        """The epoch's sample numbers batch by batch; one list of all where the sampler makes no batches.

        Raises:
            DatasetError: it gives something else than numbers of samples.
        """
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, self._draw(epoch)
        return self._drawn[1]

    def ids(self, epoch: int) -> list[int]:
        """The epoch's sample numbers, in the sampler's order; a number may come more than once, or not at all."""
        return list(itertools.chain.from_iterable(self.batches(epoch)))

    def divides(self, epoch: int) -> bool:
        """Whether the epoch may be shown in parts, of batches of any size: no sample comes twice, no batch is made."""
        ids = () if self.batched else self.ids(epoch)
        return not self.batched and len(set(ids)) == len(ids)

    @property
    def sized(self) -> bool:
        """Whether it is known how many samples a batch has: of batches that a sampler makes, where it says so."""
        return not self.batched or hasattr(self._sampler, "batch_size")

    def describe(self) -> str:
        """For people."""
        name = type(self._sampler).__name__
        if self.batched:
            return f"{name} makes the batches; they stay as they are: a frozen epoch holds all its chunks in memory"
        return f"{name} draws the samples of each epoch; a frozen epoch shows them chunk by chunk"

    def _draw(self, epoch: int) -> list[list[int]]:
        sampler: Any = self._sampler
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        own = find_states(sampler)
        with forked_random_states(own):
            seed_random_states(mix(self._seed, epoch, 4), own)
            drawn = [list(batch) for batch in sampler] if self.batched else [list(sampler)]
        batches = [[int(number) for number in batch] for batch in drawn]
        for number in itertools.chain.from_iterable(batches):
            if not 0 <= number < self._samples:
                raise DatasetError(
                    f"{type(sampler).__name__} asks for sample {number}, the data set has {self._samples}"
                )
        return batches


@dataclass(frozen=True)
class UserLoader:
    """What a training is fed with, as the user has it.

    Attributes:
        collate: makes a batch of items; None: torch's own.
        workers: who reads and renders ahead.
        sampler: whose samples an epoch shows; None: each once, in an order of the seed's.
        batched: whether it makes the batches, too.
        generator_seed: of the random state that the user gave it for the order of samples; None where none was given.
    """

    dataset: Dataset[Any]
    batch_size: int
    collate: Collate | None
    workers: Workers
    drop_last: bool = False
    sampler: Iterable[Any] | None = None
    batched: bool = False
    generator_seed: int | None = None

    def order_seed(self, seed: int) -> int:
        """What the order of samples is drawn from: the training's seed, and that of the user's own random state."""
        return seed if self.generator_seed is None else mix(seed, self.generator_seed, 5)

    @classmethod
    def of(
        cls, data: Dataset[Any] | DataLoader[Any], batch_size: int | None, collate: Collate | None, workers: int
    ) -> UserLoader:
        """From a data set, or a DataLoader that says the rest itself.

        Raises:
            ArgumentError: a data set without a batch size, or a DataLoader that says otherwise.
            DatasetError: a DataLoader over a stream.
        """
        if not isinstance(data, DataLoader):
            if batch_size is None:
                raise ArgumentError("batch_size must be a whole number of at least 1, not None: or give a DataLoader")
            return cls(data, batch_size, collate, Workers(workers))
        if isinstance(data.dataset, IterableDataset):
            raise DatasetError(
                f"the DataLoader's {type(data.dataset).__name__} is a stream: features are stored by sample "
                "number, so a map-style data set with __len__ and __getitem__ is needed, a list of what it gives say"
            )
        batches = cast(Any, data.batch_sampler)
        plain = isinstance(batches, BatchSampler) and type(batches).__iter__ is BatchSampler.__iter__
        # A DataLoader that is given a batch sampler has no sampler, size or `drop_last` beside it.
        given = getattr(data.batch_sampler, "batch_size", None)
        for name, told, its in (("batch_size", batch_size, given), ("collate_fn", collate, data.collate_fn)):
            if told is not None and told != its:
                raise ArgumentError(f"{name} is {told!r}, the DataLoader's is {its!r}: leave it to the DataLoader")
        if data.batch_sampler is None:
            raise ArgumentError(
                "the DataLoader has no batch size: its data set gives batches; hand over single samples"
            )
        own, sampler = data.collate_fn, batches.sampler if plain else None
        generator = data.generator or getattr(sampler or data.sampler, "generator", None)
        return cls(
            data.dataset,
            given or _first_batch(data.batch_sampler),
            None if own is default_collate else own,
            Workers.of(data, workers),
            drop_last=plain and batches.drop_last,
            sampler=data.batch_sampler if sampler is None else None if _is_plain(sampler) else sampler,
            batched=not plain,
            generator_seed=None if generator is None else generator.initial_seed(),
        )


def _is_plain(sampler: Any) -> bool:
    """Whether a sampler shows each sample once in a random order, as an epoch does without one."""
    return type(sampler) is RandomSampler and not sampler.replacement and sampler._num_samples is None


def _first_batch(batches: Iterable[Sequence[int]]) -> int:
    with forked_random_states():
        return max(1, len(next(iter(batches), [0])))
