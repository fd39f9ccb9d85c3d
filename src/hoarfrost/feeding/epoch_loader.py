"""A training's epochs as loops take them from a DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import Dataset

from ..errors import ArgumentError, CheckpointError
from ..samples import TrainingData
from .epochs import Epochs

__all__ = ["EpochLoader"]


class EpochLoader:
    """Each iteration over it is an epoch: the next one, or the one of `set_epoch`.

    Nothing is decided, frozen or built before the first batch is asked for. An epoch that was begun, by as little as
    one batch, is over once another begins; a loop that has metrics to give ends it before, `end_epoch(metrics)`.
    Behind the freezer's `load_state_dict` an epoch that was broken off goes on where it was.

    Attributes:
        dataset: the user's, without its transform while a Freezer holds that.
        batch_size: samples in a batch.
    """

    def __init__(self, epochs: Epochs, data: TrainingData) -> None:
        self._epochs, self._data = epochs, data
        self._start, self._iterated = 0, False

    @property
    def dataset(self) -> Dataset[Any]:
        return self._data.samples.dataset

    @property
    def batch_size(self) -> int:
        return self._data.batch_size

    @property
    def drop_last(self) -> bool:
        """Whether samples are left out that fill no batch."""
        return self._data.drop_last

    def __len__(self) -> int:
        """Batches of the epoch that comes, or is on; behind a whole one, of the next."""
        return self._epochs.steps_of(self.state_dict()["epoch"])

    def __iter__(self) -> Iterator[Any]:
        if self._epochs.resumed and self._epochs.given < self._epochs.steps:
            self._start = self._epochs.given
        else:
            self.finish()
        start, self._start, self._iterated = self._start, 0, True
        yield from self._epochs.batches(self._epochs.epoch, start)

    def finish(self, metrics: Mapping[str, Any] | None = None, *, last: bool = False) -> None:
        """An epoch of which batches were given is over.

        Args:
            metrics: as `Freezer.end_epoch` takes them.
            last: no other will follow: nothing is decided for it, and an epoch that was broken off is none.
        """
        if self._epochs.given and not (last and self._epochs.given < self._epochs.steps):
            self._epochs.end(metrics or {}, last=last)
        self._iterated = self._iterated and not last

    def close(self) -> None:
        """No more epochs. The last one has no successor that would end it: where it was shown whole, it is recorded."""
        if self._iterated:
            self.finish(last=True)
        self._epochs.close()

    def set_epoch(self, epoch: int) -> None:
        """The next iteration shows this epoch from its beginning, as samplers are told."""
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise ArgumentError(f"set_epoch: a whole number from 0 on is needed, not {epoch!r}")
        self._set(epoch, 0)

    def state_dict(self) -> dict[str, Any]:
        """How far the epoch is: behind a whole one, the next at its beginning."""
        epoch, given = self._epochs.epoch, self._epochs.given or self._start
        return {"epoch": epoch + 1, "step": 0} if given >= self._epochs.steps else {"epoch": epoch, "step": given}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on there; behind the freezer's own `load_state_dict`.

        Raises:
            CheckpointError: it is no such state.
        """
        epoch, step = state.get("epoch"), state.get("step")
        if not isinstance(epoch, int) or not isinstance(step, int) or epoch < 0 or step < 0:
            raise CheckpointError(f"a loader's state holds an epoch and a step, not {dict(state)!r}")
        self._set(epoch, step)

    def _set(self, epoch: int, start: int) -> None:
        if epoch > self._epochs.epoch:
            self.finish()
        self._epochs.begin(epoch, start)
        self._start = start
