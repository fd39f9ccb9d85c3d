"""Which sample stands in which chunk, and the order in which an epoch visits them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from ..seeds import mix
from .loader import Sampling, UserLoader
from .parts import Left, Part

__all__ = ["Order", "batch_bounds", "steps_left", "steps_of", "usable_batch_size"]

BUCKETS = 8
"""Windows of an epoch, at least, where samples differ in length and there are so many chunks."""


@dataclass(frozen=True)
class Order:
    """Which samples stand in which chunk, and the order in which an epoch visits them.

    Args:
        samples: number of samples, N.
        seed: of the partition into chunks and of every epoch's order.
        chunk_size: samples in a chunk; the last one may be shorter.
        neighbours: whether a chunk's samples follow one another in the data set.
        window: chunks whose samples are mixed; at least the number of chunks gives a full shuffle.
        rank, world_size: which share of each epoch's samples is this process's: as many as another's, or one more, and
            no sample is in two.
        sampling: draws the samples of each epoch; None: each once.
        lengths: int64 [N], where samples differ in length: chunks and windows are of samples about as long, so that
            little is padded.

    Attributes:
        left: by epoch, of those that were begun in another way (by other ranks, say): what is still to be shown.
    """

    samples: int
    seed: int
    chunk_size: int = 64
    window: int = 16
    rank: int = 0
    world_size: int = 1
    sampling: Sampling | None = None
    lengths: Tensor | None = field(default=None, compare=False)
    neighbours: bool = False
    left: dict[int, Left] = field(default_factory=dict, compare=False)

    @property
    def chunks(self) -> int:
        return -(-self.samples // self.chunk_size)

    def members(self, chunk: int) -> Tensor:
        """Sample ids of a chunk, int64 [n]: a random part of the data set, the same in every epoch.

        Random, unless told otherwise, because a folder of images is sorted by class, and a chunk of one class would
        never be mixed well.
        """
        return self._partition[chunk * self.chunk_size : (chunk + 1) * self.chunk_size]

    def shuffled(self, epoch: int) -> Tensor:
        """All of this rank's sample ids in a full shuffle, int64 [N / world_size]; or as the sampler draws them."""
        if self.sampling is not None:
            return self._of_left(torch.tensor(self.sampling.ids(epoch)), epoch)
        ids = torch.randperm(self.samples, generator=self._generator(epoch, 1))
        return self._of_left(ids, epoch)[self.rank :: self.world_size]

    @property
    def seed_of_rank(self) -> int:
        """Of what each rank draws for its own batches: the seed itself on the first."""
        return mix(self.seed, self.rank) if self.rank else self.seed

    def share(self, epoch: int) -> int:
        """Samples that are this rank's of what is left of an epoch, as a rule all of it."""
        return self.least(epoch) + (self.rank < self.count(epoch) % self.world_size)

    def least(self, epoch: int) -> int:
        """Samples of the smallest share."""
        return self.count(epoch) // self.world_size

    def count(self, epoch: int) -> int:
        """Samples that are left of an epoch, over all ranks."""
        left = self.left.get(epoch)
        return self.samples if left is None else left.count

    def windows(self, epoch: int) -> Iterator[tuple[list[int], Tensor]]:
        """The epoch as windows: the chunks of each, and the order [rows] in which its samples leave.

        Row r of a window is the sample at r in the concatenation of its chunks. A sampler's epoch may show a sample
        more than once, or not at all; where it makes the batches, one window of all chunks keeps its order. A chunk at
        the end of a rank's share is the next one's too: each shows a part of its samples.
        """
        if self.sampling is not None:
            yield from self._drawn_windows(self.sampling, epoch)
            return
        mine = self._mine(torch.randperm(self.chunks, generator=self._generator(epoch, 2)).tolist(), epoch)
        mixing = self._generator(epoch, 3, self.rank)
        for chunks in self._grouped(list(mine), epoch):
            offsets = [0, *accumulate(self.size(chunk) for chunk in chunks)]
            rows = torch.cat([at + mine[chunk] for at, chunk in zip(offsets, chunks, strict=False)])
            yield chunks, rows[torch.randperm(len(rows), generator=mixing)]

    def behind(self, epoch: int, parts: Sequence[Part]) -> Left:
        """What is left of an epoch of which these parts were shown, one after the other.

        Raises:
            ValueError: they are of more ranks than there are samples.
        """
        left = Left(torch.ones(self.samples, dtype=torch.bool), 0)
        for part in parts:
            if part.ranks > self.samples:
                raise ValueError(f"{self.samples} samples were never shared among {part.ranks} ranks")
            still, known = left.samples.clone(), part.samples(self.samples)
            for rank, rows in enumerate(_rows_over(part, left.count) if known is None else ()):
                if rows:
                    share = replace(self, rank=rank, world_size=part.ranks, sampling=None, left={epoch: left})
                    still[share.shown(epoch, rows, part.by_chunks)] = False
            if known is not None:
                still &= ~known
            left = Left(still, left.batches + part.batches)
        return left

    def shown(self, epoch: int, rows: int, by_chunks: bool) -> Tensor:
        """The first ids of this rank's share, as features come or as images do."""
        return (self._by_chunks(epoch) if by_chunks else self.shuffled(epoch))[:rows]

    def _of_left(self, ids: Tensor, epoch: int) -> Tensor:
        """Those that are still to be shown."""
        left = self.left.get(epoch)
        return ids if left is None else ids[left.samples[ids]]

    def _by_chunks(self, epoch: int) -> Tensor:
        """All of this rank's sample ids as windows show them."""
        windows = self.windows(epoch)
        return torch.cat([torch.cat([self.members(chunk) for chunk in chunks])[rows] for chunks, rows in windows])

    def _mine(self, chunks: list[int], epoch: int) -> dict[int, Tensor]:
        """This rank's share of all chunks in an order: those of which it shows samples, with their places in each."""
        begin = self.rank * self.least(epoch) + min(self.rank, self.count(epoch) % self.world_size)
        share, left = self.share(epoch), self.left.get(epoch)
        found: dict[int, Tensor] = {}
        at = 0
        for chunk in chunks:
            places = torch.arange(self.size(chunk))
            if left is not None:
                places = places[left.samples[self.members(chunk)]]
            places, at = places[max(begin - at, 0) : max(begin + share - at, 0)], at + len(places)
            if len(places):
                found[chunk] = places
        return found

    def size(self, chunk: int) -> int:
        """Number of samples in a chunk."""
        return min(self.chunk_size, self.samples - chunk * self.chunk_size)

    def _drawn_windows(self, sampling: Sampling, epoch: int) -> Iterator[tuple[list[int], Tensor]]:
        """Windows of the samples that a sampler draws."""
        places = self._places[self._of_left(torch.tensor(sampling.ids(epoch)), epoch)]
        chunk_of, row_of = places // self.chunk_size, places % self.chunk_size
        permutation = torch.randperm(self.chunks, generator=self._generator(epoch, 2))
        wanted = [chunk for chunk in permutation.tolist() if bool((chunk_of == chunk).any())]
        mixing = self._generator(epoch, 3)
        for chunks in [wanted] if sampling.batched else self._grouped(wanted, epoch):
            begins = torch.full((self.chunks,), -1)
            offset = 0
            for chunk in chunks:
                begins[chunk], offset = offset, offset + self.size(chunk)
            inside = begins[chunk_of] >= 0
            rows = (begins[chunk_of] + row_of)[inside]
            yield chunks, rows if sampling.batched else rows[torch.randperm(len(rows), generator=mixing)]

    def _grouped(self, chunks: list[int], epoch: int) -> list[list[int]]:
        """An epoch's chunks, in their order, as windows; where samples differ in length, windows of chunks about as
        long, their bounds and their order drawn anew in each epoch."""
        if self.lengths is None:
            return [chunks[start : start + self.window] for start in range(0, len(chunks), self.window)]
        window = min(self.window, max(1, -(-len(chunks) // BUCKETS)))
        drawing = self._generator(epoch, 5)
        first = int(torch.randint(window, (), generator=drawing))
        by_length = sorted(chunks, key=lambda chunk: float(self._mean_lengths[chunk]))
        bounds = [0, *range(first or window, len(chunks), window), len(chunks)]
        groups = [by_length[begin:end] for begin, end in pairwise(bounds) if begin < end]
        return [groups[n] for n in torch.randperm(len(groups), generator=drawing)]

    @cached_property
    def _mean_lengths(self) -> list[float]:
        """Of each chunk's samples."""
        if self.lengths is None:
            return []
        return [self.lengths[self.members(chunk)].double().mean().item() for chunk in range(self.chunks)]

    @cached_property
    def leaders(self) -> Tensor:
        """For each sample the first one of its chunk, int64 [N]."""
        return self._partition[self._places.div(self.chunk_size, rounding_mode="floor") * self.chunk_size]

    @cached_property
    def _places(self) -> Tensor:
        """Where each sample stands in the partition."""
        places = torch.empty_like(self._partition)
        places[self._partition] = torch.arange(self.samples)
        return places

    @cached_property
    def _partition(self) -> Tensor:
        if self.neighbours:
            return torch.arange(self.samples)
        drawing = self._generator(0, 0)
        drawn = torch.randperm(self.samples, generator=drawing)
        if self.lengths is None:
            return drawn
        # Of equal lengths in the order drawn; then chunks in a random order, so that the first ones are of any length.
        by_length = drawn[torch.sort(self.lengths[drawn], stable=True).indices]
        full = self.samples // self.chunk_size
        whole, rest = by_length[: full * self.chunk_size], by_length[full * self.chunk_size :]
        return torch.cat([whole.view(full, self.chunk_size)[torch.randperm(full, generator=drawing)].flatten(), rest])

    def _generator(self, epoch: int, purpose: int, rank: int = 0) -> torch.Generator:
        drawn = mix(self.seed, epoch, purpose)
        return torch.Generator().manual_seed(mix(drawn, rank) if rank else drawn)


def batch_bounds(
    rows: int, batch_size: int, drop_last: bool = False, least: int | None = None
) -> list[tuple[int, int]]:
    """Where batches begin and end; a single left-over sample joins the last batch.

    Batch normalisation refuses a batch of one, and to drop the sample would leave it untrained.

    Args:
        least: rows of the smallest share where there are several, of `least` and `least + 1` rows: all have as many
            batches, and the last of the larger ones takes the one more.
    """
    if least is not None and least < rows:
        bounds = batch_bounds(least, batch_size, drop_last)
        return bounds if drop_last else [*bounds[:-1], (bounds[-1][0], rows)]
    if drop_last:
        rows -= rows % batch_size
    starts = list(range(0, rows, batch_size))
    if batch_size > 1 and len(starts) > 1 and rows - starts[-1] == 1:
        starts.pop()
    ends = [*starts[1:], rows]
    return list(zip(starts, ends[: len(starts)], strict=True))


def steps_of(loader: UserLoader, ranks: int = 1) -> int:
    """Batches of an epoch of a user's loader, as they will be given; of the first, where its sampler makes them.

    Args:
        ranks: that share the epoch.
    """
    if loader.batched:
        return len(loader.sampler)  # type: ignore[arg-type]  # `Sampling` refuses one without a length
    samples = len(loader.dataset)  # type: ignore[arg-type]
    rows = samples // ranks if loader.sampler is None or ranks > 1 else len(loader.sampler)  # type: ignore[arg-type]
    return len(batch_bounds(rows, min(loader.batch_size, samples // ranks), loader.drop_last))


def steps_left(samples: int, parts: Sequence[Part], now: Part) -> int:
    """Batches on each rank that are still to come of an epoch of so many samples, behind these parts of it.

    Args:
        now: how many ranks go on with it, with batches of which size.
    """
    left = samples
    for part in parts:
        left -= sum(_rows_over(part, left))
    return len(batch_bounds(left // now.ranks, now.batch_size, now.drop_last))


def _rows_over(part: Part, left: int) -> list[int]:
    """How many samples of each rank's share are done with behind a part of an epoch of which so many were left; all,
    where the epoch was shown to its end, with those that no batch was filled by."""
    least, more = divmod(left, part.ranks)
    over = []
    for rank in range(part.ranks):
        share = least + (rank < more)
        # Fewer samples than ranks are shared among none.
        bounds = batch_bounds(share, part.batch_size, part.drop_last, least) if least else []
        ended = bool(bounds) and part.batches >= len(bounds)
        over.append(share if ended else bounds[part.batches - 1][1] if bounds else 0)
    return over


def usable_batch_size(batch_size: int, samples: int) -> int:
    """The batch size, or all samples where it is larger than the data set."""
    if batch_size <= samples:
        return batch_size
    warnings.warn(
        f"hoarfrost: batch_size {batch_size} is larger than the data set; each epoch is one batch of its "
        f"{samples} samples",
        stacklevel=3,
    )
    return samples
