"""A freezer's batches by their number in an epoch, as a data set that a framework's own loaders may read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from ..errors import CheckpointError
from ..freezer import Freezer

__all__ = ["NumberedBatches", "only"]


class NumberedBatches(Dataset[Any]):
    """Item n is batch n of the epoch that is on; item 0 begins the next.

    A framework that goes on within an epoch makes a loader over the same data set which leaves out the first numbers:
    asked for a later one first, the epoch begins there, and nothing is read for what was left out. That number may be
    another one than the freezer's, since more or fewer processes than before count other batches: see `go_on_at`.

    Args:
        steps: batches of an epoch.
        freezer: may be set later, before the first batch.
        metrics: gives those of the epoch that is over.
    """

    def __init__(
        self, steps: int, freezer: Freezer | None = None, metrics: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        self.freezer, self._steps, self._metrics = freezer, steps, metrics
        self._epoch: Iterator[Any] | None = None
        self._next = 0
        self._ahead: tuple[int, int] | None = None
        """Of which epoch the freezer's numbers are ahead of those that are asked for, and by how much."""
        self._over = False

    def __len__(self) -> int:
        if self.freezer is None:
            return self._steps
        return len(self.freezer.loader) - self._ahead_in(self.freezer.loader.state_dict()["epoch"])

    def __getitem__(self, number: int) -> Any:
        if self._epoch is None or number != self._next:
            self._epoch, self._next = self._begun(number), number
        self._next += 1
        return next(self._epoch)

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        return [self[number] for number in numbers]

    def restart(self) -> None:
        """The freezer has loaded a state: what was given so far is of another one."""
        self._epoch, self._ahead, self._over = None, None, False

    def begin_next(self) -> None:
        """Likewise: no more is asked for of the epoch that was broken off, though its sampler may make more batches."""
        self._over = True

    def go_on_at(self, number: int) -> None:
        """Behind the freezer's `load_state_dict`: under this number the loop asks for the first batch that comes of the
        epoch that was broken off."""
        if self.freezer is not None:
            known = self.freezer.loader.state_dict()
            self._ahead = known["epoch"], known["step"] - number

    def loader(self) -> DataLoader[Any]:
        """Gives them as they are, one after the other."""
        return DataLoader(self, collate_fn=only)

    def _begun(self, number: int) -> Iterator[Any]:
        """The epoch from a batch on."""
        if self.freezer is None:
            raise RuntimeError("batches before there is a freezer")
        loader, known = self.freezer.loader, self.freezer.loader.state_dict()
        if self._epoch is None and known["step"] and not self._over:
            # An earlier process broke this epoch off.
            goes_on = known["step"] - self._ahead_in(known["epoch"])
            if number not in (0, goes_on):
                raise CheckpointError(
                    f"the checkpoint's epoch stopped behind batch {goes_on}, and the loop goes on behind batch "
                    f"{number}: leave out what skips batches, since the loader goes on there by itself"
                )
            loader.load_state_dict({**known, "step": known["step"] if number == goes_on else 0})
        elif number:
            loader.load_state_dict({"epoch": known["epoch"], "step": number})
        else:
            loader.finish(self._metrics())
        return iter(loader)

    def _ahead_in(self, epoch: int) -> int:
        return self._ahead[1] if self._ahead is not None and self._ahead[0] == epoch else 0


def only(batches: Sequence[Any]) -> Any:
    """A batch of one batch is that."""
    return batches[0]
