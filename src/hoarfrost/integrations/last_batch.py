"""Which batch is the last of its loader, as Accelerate wants to know it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from accelerate.data_loader import DataLoaderStateMixin
from accelerate.state import GradientState

from ..feeding import Evaluation

__all__ = ["LastBatch", "StoredEvaluation"]


class LastBatch(DataLoaderStateMixin):  # type: ignore[misc]
    """A loader whose last batch `accumulate` and `gather_for_metrics` know, without one being fetched ahead."""

    gradient_state: GradientState

    def told(self, batches: Iterable[Any], start: int, count: int, remainder: int = 0) -> Iterator[Any]:
        """These batches, from that number on.

        Args:
            remainder: to how many entries what is gathered of the last one is cut; 0: not at all.
        """
        self.reset()
        self.remainder = remainder
        self.gradient_state._add_dataloader(self)
        try:
            for number, batch in enumerate(batches, start):
                self.end_of_dataloader = number == count - 1
                yield batch
        finally:
            self.end()


class StoredEvaluation(LastBatch):
    """An evaluation of stored features for the Trainer, which repeats a batch's loss for each sample of a whole one."""

    def __init__(self, evaluation: Evaluation, batch_size: int) -> None:
        self._evaluation, self.samples = evaluation, evaluation.samples
        self._remainder = evaluation.samples % batch_size
        self.gradient_state = GradientState()

    def __len__(self) -> int:
        return len(self._evaluation)

    def __iter__(self) -> Iterator[Any]:
        yield from self.told(self._evaluation, 0, len(self), self._remainder)
