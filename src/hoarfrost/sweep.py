"""Several trainings side by side in one process, on one reading of the stored features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from .errors import ArgumentError
from .feeding import SharedReadings
from .freezer import Freezer

__all__ = ["Sweep"]

_OVER = object()


class Sweep:
    """Feeds variants of a training, other rates, other layers behind the cut, other seeds, batch by batch in turn.

    ```python
    sweep = hoarfrost.Sweep(freezers)               # one for each variant, as for a training of its own
    for epoch in range(10):
        for freezer, (inputs, targets) in sweep.batches(epoch):
            loss = criterion(freezer(inputs), targets)
            loss.backward(); freezer.optimizer.step(); freezer.optimizer.zero_grad()
        sweep.end_epoch()
    ```

    Each variant ends with the bits of its own training: its batches are the same, and its random state is its own. What
    is read once is what variants read alike: the same cache (the front's weights, the data, the transform, the codec),
    in the same order (seed, batch size). Where they differ, one variant freezes elsewhere say, each reads for itself.

    Args:
        freezers: with models, optimizers and data sets of their own, and one `cache_dir`; with one view and a ladder of
            one rung, since what is measured on a model (`ladder="auto"`, what further views store) may differ.
        seeds: of torch's random state that each variant begins with; None: all begin with the one that is there.

    Raises:
        ArgumentError: there is nothing to sweep, or a model or data set is in two variants.
    """

    def __init__(self, freezers: Sequence[Freezer], seeds: Sequence[int] | None = None) -> None:
        self.freezers = tuple(freezers)
        if not self.freezers or not all(isinstance(freezer, Freezer) for freezer in self.freezers):
            raise ArgumentError(f"a sweep takes Freezers, one for each variant, not {freezers!r}")
        for what, held in (
            ("model", [freezer.model for freezer in self.freezers]),
            ("data set", [freezer.loader.dataset for freezer in self.freezers]),
        ):
            if len({id(one) for one in held}) < len(held):
                raise ArgumentError(
                    f"two variants of a sweep have one {what}: give each a copy.deepcopy of it, made before its Freezer"
                )
        if seeds is not None and len(seeds) != len(self.freezers):
            raise ArgumentError(f"{len(seeds)} seeds for {len(self.freezers)} variants: one for each is needed")
        self._random = [
            _RandomState(freezer.device, None if seeds is None else seeds[number])
            for number, freezer in enumerate(self.freezers)
        ]
        readings = SharedReadings()
        for freezer in self.freezers:
            freezer._feeder.shared = readings

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Freezer, Any]]:
        """Each batch of the epoch once for each variant, with the Freezer that takes it; see `Freezer.batches`."""
        coming = {number: freezer.batches(epoch, start) for number, freezer in enumerate(self.freezers)}
        try:
            while coming:
                for number, batches in list(coming.items()):
                    with self._random[number].in_force():
                        batch = next(batches, _OVER)
                        if batch is _OVER:
                            del coming[number]
                        else:
                            yield self.freezers[number], batch
        finally:
            for batches in coming.values():
                batches.close()  # type: ignore[attr-defined]  # a generator

    def end_epoch(self, metrics: Sequence[Mapping[str, float]] | None = None) -> None:
        """See `Freezer.end_epoch`.

        Args:
            metrics: of each variant.
        """
        told = [{} for _ in self.freezers] if metrics is None else list(metrics)
        if len(told) != len(self.freezers):
            raise ArgumentError(f"metrics of {len(told)} variants, of {len(self.freezers)} are needed")
        for freezer, random, its in zip(self.freezers, self._random, told, strict=True):
            with random.in_force():
                freezer.end_epoch(its)

    def close(self) -> None:
        """All of them."""
        for freezer in self.freezers:
            freezer.close()

    def __enter__(self) -> Sweep:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _RandomState:
    """torch's, of one variant."""

    def __init__(self, device: torch.device, seed: int | None) -> None:
        self._device = device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            if seed is not None:
                torch.manual_seed(seed)
            self._own = self._now()

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """It is torch's for as long; whatever is drawn meanwhile is drawn of it."""
        outside = self._now()
        self._set(self._own)
        try:
            yield
        finally:
            self._own = self._now()
            self._set(outside)

    def _now(self) -> list[torch.Tensor]:
        states = [torch.get_rng_state()]
        return [*states, torch.cuda.get_rng_state(self._device)] if self._device.type == "cuda" else states

    def _set(self, states: list[torch.Tensor]) -> None:
        torch.set_rng_state(states[0])
        if len(states) > 1:
            torch.cuda.set_rng_state(states[1], self._device)
