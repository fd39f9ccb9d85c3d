"""Where a training goes on from a freezer's state, in the steps of as many processes as there are now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..samples import Part, UserLoader, steps_left, steps_of

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    The processes before may have been more or fewer, with batches of another size or more of them in an update: nothing
    of this is counted in theirs.

    Attributes:
        epoch: that is on; where none of it is left, the one that is over.
        left: batches that are still to come of it.
        steps: batches of a whole epoch.
        accumulated: batches whose gradients make an update; the last one of an epoch may have fewer.
    """

    epoch: int
    left: int
    steps: int
    accumulated: int = 1

    @classmethod
    def of(cls, state: Mapping[str, Any] | None, loader: UserLoader, ranks: int, accumulated: int = 1) -> Progress:
        """From a freezer's `state_dict()`; None: the training begins."""
        known: Mapping[str, Any] = {"epoch": 0, "given": 0, "parts": []} if state is None else state
        steps, samples = steps_of(loader, ranks), len(loader.dataset)  # type: ignore[arg-type]  # it is map-style
        now = Part(ranks, max(1, min(loader.batch_size, samples // ranks)), loader.drop_last, 1, by_chunks=False)
        if loader.sampler is not None and ranks == 1 and not loader.batched:
            samples = len(loader.sampler)  # type: ignore[arg-type]  # a Freezer refuses one without a length
        parts = [Part.from_config(part) for part in known["parts"]]
        if parts and not loader.batched:
            left = steps_left(samples, parts, now)
        else:
            # A sampler that makes the batches goes on with its own; of an epoch shown whole, all samples are told.
            told = parts[-1].samples(samples) if parts else None
            left = 0 if told is not None and bool(told.all()) else max(0, steps - int(known["given"]))
        return cls(int(known["epoch"]), left, steps, accumulated)

    @property
    def updates(self) -> int:
        """In a whole epoch."""
        return max(1, math.ceil(self.steps / self.accumulated))

    @property
    def done(self) -> int:
        """Updates so far, had all of them been by as many processes as there are now."""
        return self.updates * (self.epoch + 1) - math.ceil(self.left / self.accumulated)

    @property
    def skipped(self) -> int:
        """The number of the batch that comes, in an epoch that ends with its last update; whole updates precede it."""
        return (self.updates - math.ceil(self.left / self.accumulated)) * self.accumulated

    def epochs(self, max_steps: int, made: int) -> int:
        """How many there are until so many updates were made.

        Args:
            made: so far, by however many processes.
        """
        behind = max_steps - made - math.ceil(self.left / self.accumulated)
        return self.epoch + 1 + max(0, math.ceil(behind / self.updates))
