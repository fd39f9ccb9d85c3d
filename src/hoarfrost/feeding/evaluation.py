"""The data that a model is evaluated on, as stored features once its front is frozen."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..cache import Cache, CacheSpec, CacheWriter, Fingerprint, hash_tensors
from ..codecs import Codec, Exact
from ..cuts import apart
from ..errors import (
    ArgumentError,
    BudgetError,
    CacheDirectoryError,
    CacheError,
    CodecError,
    DatasetError,
    NonFiniteError,
    UnstableDataError,
)
from ..freezing import Division
from ..samples import Collate, Input, OnDevice, Order, PrefixSource, Rows, Samples, Workers
from ..storing import Faults, StoredFeatures, feature_spec
from .front_guard import FrontGuard

__all__ = ["Evaluation"]


class Evaluation:
    """Batches for evaluation, as the freezer takes them now: images at first, features of the frozen prefix later.

    ```python
    evaluation = freezer.evaluation(test_set, transform)
    for inputs, targets in evaluation:
        logits = freezer(inputs)
    ```

    The first pass behind a freeze runs the prefix and stores what it gives; later ones read that. The order is the data
    set's own, and each batch is run as a whole, so that with the exact codec the outputs have the model's own bits.

    Args:
        codec: of the stored features.
        model, told, collate, on_bad_sample: as for `Samples`.
        directory: where to store; None: never.
        division: asks what is frozen now; None for nothing.
        room: bytes that may be taken now; None: no limit.
        faults: of what is stored.

    Raises:
        ArgumentError: the transform draws at random, or the batch size is no whole number of at least 1.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        transform: Callable[[Any], Any] | None,
        *,
        batch_size: int,
        codec: Codec,
        workers: Workers,
        model: nn.Module | None,
        told: Input | None,
        collate: Collate | None,
        on_bad_sample: str,
        on_device: OnDevice,
        directory: Path | None,
        division: Callable[[], Division | None],
        room: Callable[[], int | None],
        faults: Faults,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ArgumentError(f"batch_size must be a whole number of at least 1, not {batch_size!r}")

        def taken(keys: Input | None) -> Samples:
            return Samples(
                dataset, transform, workers, model=model, told=keys, collate=collate, on_bad_sample=on_bad_sample
            )

        try:
            self._samples = taken(told)
        except UnstableDataError as error:
            raise UnstableDataError(
                f"{type(dataset).__name__} gave two different images for one index, so that an evaluation would "
                "measure other images each time: let the data set give images without augmentation, and what prepares "
                "them as evaluation(dataset, transform=...)"
            ) from error
        except DatasetError:
            # Trained on several views of a sample, and evaluated on samples as they are.
            if not isinstance(told, list | tuple) or isinstance(told[0], int | str):
                raise
            self._samples = taken(told[0])
        if self._samples.pipeline.is_random:
            self._samples.close()
            raise ArgumentError(
                "evaluation needs a transform that gives the same image each time, not "
                f"{'; '.join(self._samples.pipeline.describe())}"
            )
        self._draw = self._samples.pipeline.draw(len(self._samples), 0)
        self._order = Order(len(self._samples), 0, batch_size)
        self._groups = list(torch.split(torch.arange(len(self._samples)), batch_size))
        self._codec, self._on_device = codec, on_device
        self._directory, self._division, self._room = directory, division, room
        self._of: Division | None = None
        self._guard: FrontGuard | None = None
        self._faults = faults
        self._stored: tuple[StoredFeatures, ...] = ()
        self._writers: list[CacheWriter[Cache]] = []
        """Of the pass that was begun last: another one takes their place."""
        self._stores = True

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self._groups)

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(self._samples)

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(stored.nbytes for stored in self._stored)

    def __iter__(self) -> Iterator[Any]:
        """Batches on the device, laid out as in training: inputs, or in their place features of all that crosses."""
        yield from apart(self._batches(), self._on_device.device)

    def _batches(self) -> Generator[Any, None, None]:
        division = self._division()
        if division is not self._of:
            self.drop()
            self._of, self._stores = division, self._directory is not None
            self._guard = None if division is None else FrontGuard(division.prefix)
        elif self._guard is not None and self._guard.changed(exactly=True):
            self.drop()  # the front is another one by now
        if division is None:
            yield from map(self._on_device, self._samples.batches(self._groups, self._draw))
            return
        if self._stored and all(stored.stands for stored in self._stored):
            batches = self._read(division)
        else:
            for stored in self._stored:
                stored.missed()
            self._stored = ()
            batches = self._computed(division)
        for (features, targets), ids in zip(batches, self._groups, strict=True):
            stays = self._samples.unreadable.left(ids)
            if stays is not None:
                if not stays.any():
                    continue
                features, targets = [_only(tensor, stays) for tensor in features], targets[stays]
            crossing = len(division.cut.rows)
            by_call = [tuple(features[n : n + crossing]) for n in range(0, len(features), crossing)]
            given = [tensors if crossing > 1 else tensors[0] for tensors in by_call]
            shown = self._samples.under(targets, self._draw)
            yield self._on_device(self._samples.with_features(given, shown, division.cut.rows))

    def drop(self) -> None:
        """Remove what is stored."""
        self._abandon()
        for stored in self._stored:
            stored.drop()
        self._stored = ()

    def close(self) -> None:
        """Remove what is stored, and give the data set its transform back."""
        self.drop()
        self._samples.close()

    def _source(self, division: Division) -> PrefixSource:
        return PrefixSource(
            prefix=division.prefix,
            samples=self._samples,
            order=self._order,
            spec=None,
            draw_for=lambda chunk, epoch: self._draw,
            on_device=self._on_device,
        )

    def _computed(self, division: Division) -> Iterator[tuple[list[Tensor | Rows], Tensor]]:
        """Features by the prefix, stored as they are given where there is room."""
        source = self._source(division)
        self._abandon()  # what a pass began that was broken off, or stands still
        writers: list[CacheWriter[Cache]] = []
        try:
            for number, (calls, targets) in enumerate(self._samples.stream_calls(self._groups, self._draw)):
                ids = self._groups[number]
                tensors: Sequence[Tensor] = source.run_calls(calls, ids)
                try:
                    if number == 0 and self._stores and self._directory is not None:
                        writers = self._writers = []
                        self._begin(self._directory, division, source, tensors)
                    if writers and writers is self._writers:
                        for place, writer in enumerate(writers):
                            if (number, 0) not in writer.done:
                                writer.append(number, 0, ids, targets, tensors[place], source.lengths(ids, place))
                        # What later passes will read.
                        tensors = [writer.spec.dense(writer.packed(number, 0)) for writer in writers]
                except (CacheError, CodecError, NonFiniteError) as error:
                    self._give_up(error)
                yield self._placed(tensors, source, ids), targets
            if writers and writers is self._writers:
                try:
                    for writer in writers:
                        self._stored += (StoredFeatures(writer.commit(), self._faults),)
                except CacheError as error:
                    self._give_up(error)
                    self.drop()
        finally:
            if writers is self._writers:
                self._abandon()

    def _read(self, division: Division) -> Iterator[tuple[list[Tensor | Rows], Tensor]]:
        source = self._source(division)
        for number, ids in enumerate(self._groups):
            try:
                records = [stored.read(number, 0, 0) for stored in self._stored]
                if not records:
                    raise CacheDirectoryError("it was dropped meanwhile")
            except CacheError:
                calls, targets = self._samples.calls(ids, self._draw)
                yield self._placed(source.run_calls(calls, ids), source, ids), targets
                continue
            tensors = [record.spec.dense(record.packed) for record in records]
            yield self._placed(tensors, source, ids), records[0].targets

    def _placed(self, tensors: Sequence[Tensor], source: PrefixSource, ids: Tensor) -> list[Tensor | Rows]:
        placed: list[Tensor | Rows] = []
        for number, tensor in enumerate(tensors):
            tensor, lengths = tensor.to(self._on_device.device), source.lengths(ids, number)
            if lengths is None:
                placed.append(tensor)
            else:
                placed.append(Rows.of(tensor, lengths, source.crossings[number % len(source.crossings)]))
        return placed

    def _begin(self, directory: Path, division: Division, source: PrefixSource, tensors: Sequence[Tensor]) -> None:
        crossings, room = division.cut.rows * len(self._samples.form.mains), self._room()
        if room is not None and room < len(crossings):
            raise BudgetError("the disk budget is used up by the features that are trained on")
        share = None if room is None else room // len(crossings)
        for number, (crossing, tensor) in enumerate(zip(crossings, tensors, strict=True)):
            codec = self._codec if tensor.is_floating_point() else Exact()
            lengths = source.lengths(torch.arange(len(self._samples)), number)
            spec = feature_spec(crossing, tensor, self._order, codec, lengths=lengths)
            fingerprint = self._fingerprint(division, spec, number)
            self._writers.append(Cache.create(directory, fingerprint, spec, budget_bytes=share))

    def _fingerprint(self, division: Division, spec: CacheSpec, tensor: int) -> Fingerprint:
        return Fingerprint(
            {
                "purpose": "evaluation",
                "prefix": hash_tensors(division.prefix.state_dict()),
                "cut": division.cut.label,
                "tensor": tensor,
                "samples": len(self._samples),
                "data": self._samples.identity.look().data,
                "transform": self._samples.pipeline.to_config(),
                "batch_size": self._order.chunk_size,
                "precision": None if division.precision is None else division.precision.plain(),
                "codec": spec.codec.to_config(),
            }
        )

    def _give_up(self, error: Exception) -> None:
        self._stores = False
        self._abandon()
        self._faults.tell("evaluates without stored features until the next freeze", error)

    def _abandon(self) -> None:
        """Remove what is not whole."""
        for writer in self._writers:
            with self._faults.borne("leaves an evaluation that could not be stored"):
                writer.abort()
        self._writers = []


def _only(features: Tensor | Rows, stays: Tensor) -> Tensor | Rows:
    """Those of some samples, bool [B]."""
    if isinstance(features, Tensor):
        return features[stays.to(features.device)]
    return features.only(stays)
