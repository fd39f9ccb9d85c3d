"""What of an epoch was shown, and how it was shared: whoever goes on with it shows every other sample once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..errors import CheckpointError
from ..samples import Part, TrainingData

__all__ = ["EpochParts"]


class EpochParts:
    """The parts of the epoch that is on. As a rule there is one.

    Another one begins where images follow on features within an epoch, in another order, and where other ranks, or
    batches of another size, go on with it. What no part has shown is shared among the ranks anew. Where a sampler of
    the user's draws samples more than once, or makes the batches, there are no parts.
    """

    def __init__(self, data: TrainingData) -> None:
        self._data = data
        self._epoch = 0
        self._before: tuple[Part, ...] = ()
        """Those that are over."""
        self._by_chunks: bool | None = None
        """How the one that is on is shown; None: nothing was."""

    def begin(self, epoch: int, start: int) -> None:
        """This epoch is shown from a batch on."""
        over = sum(part.batches for part in self._before)
        if epoch != self._epoch or start < max(1, over):
            self._take(epoch, (), None)

    def shown(self, step: int, by_chunks: bool) -> None:
        """From this batch on it is shown so."""
        before, over = self._by_chunks, sum(part.batches for part in self._before)
        if before is not None and before != by_chunks and step > over and self._divides(self._epoch):
            self._take(self._epoch, (*self._before, self._shown_part(step, step - over, before)), by_chunks)
        self._by_chunks = by_chunks

    def state_dict(self, given: int) -> dict[str, Any]:
        """Behind so many batches of the epoch; JSON."""
        parts = self._before
        on = given - sum(part.batches for part in parts)
        if not given:
            return {"parts": []}
        if on > 0 and self._by_chunks is not None:
            parts = (*parts, self._shown_part(given, on, self._by_chunks))
        return {"parts": [part.to_config() for part in parts]}

    def check(self, state: Mapping[str, Any], epoch: int) -> None:
        """Raise CheckpointError where the epoch cannot be gone on with."""
        self._checked(state, epoch)

    def load_state_dict(self, state: Mapping[str, Any], epoch: int) -> None:
        """Go on behind what was shown; with as many ranks and as large batches in the order of before."""
        parts = self._checked(state, epoch)
        if not parts or (parts[-1].drawn is None and not self._divides(epoch)):
            self._take(epoch, (), None)
            return
        last, drawn = parts[-1], self._data.order.sampling is not None
        goes_on = last.alike(self._part(1, last.by_chunks)) and (last.drawn is not None) == drawn
        self._take(epoch, parts[:-1] if goes_on else parts, last.by_chunks)
        left, ranks = self._data.order.count(epoch), self._data.ranks.world
        if left and left < ranks:
            warnings.warn(
                f"hoarfrost: {left} samples are left of epoch {epoch}, fewer than the {ranks} ranks that go on with "
                "it; they are not shown",
                stacklevel=3,
            )

    def _take(self, epoch: int, before: Sequence[Part], by_chunks: bool | None) -> None:
        if epoch != self._epoch:
            self._data.shown(self._epoch, ())
        self._epoch, self._before, self._by_chunks = epoch, tuple(before), by_chunks
        self._data.shown(epoch, self._before)

    def _checked(self, state: Mapping[str, Any], epoch: int) -> tuple[Part, ...]:
        try:
            parts = tuple(Part.from_config(part) for part in state["parts"])
            known = [part.samples(self._data.order.samples) for part in parts]
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"the state's parts of an epoch are none: {error}") from error
        sampling = self._data.order.sampling
        if parts and known[-1] is None and sampling is not None and sampling.sized and not self._divides(epoch):
            last = parts[-1]
            if not last.alike(self._part(1, last.by_chunks)):
                why = "makes the batches" if sampling.batched else "draws samples more than once"
                raise CheckpointError(
                    f"the state is from within epoch {epoch}, in batches of {last.batch_size} on {last.ranks} ranks, "
                    f"and the sampler {why}, so that nobody can tell what is left in batches of "
                    f"{self._data.batch_size}: go on as before, or from a state between two epochs"
                )
        return parts

    def _divides(self, epoch: int) -> bool:
        sampling = self._data.order.sampling
        return sampling is None or sampling.divides(epoch)

    def _part(self, batches: int, by_chunks: bool) -> Part:
        data = self._data
        return Part(data.ranks.world, data.batch_size, data.drop_last, batches, by_chunks)

    def _shown_part(self, given: int, batches: int, by_chunks: bool) -> Part:
        """The one that is on, behind so many batches of the epoch, of which so many are its own."""
        part, data = self._part(batches, by_chunks), self._data
        sampling, bounds = data.order.sampling, data.bounds(self._epoch)
        whole = given >= len(bounds)
        if sampling is None or not (whole or sampling.divides(self._epoch)):
            return part
        held = torch.full((data.order.samples,), whole)
        if not whole:
            held[data.order.shown(self._epoch, bounds[given - 1][1], by_chunks)] = True
        return part.with_samples(held)
