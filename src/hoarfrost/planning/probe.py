"""Copies of a model that train on a few images, each in its own way, with a clock beside them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from ..costs import sum_of
from ..cuts import Cut, deep_copied, set_apart
from ..freezer import Freezer
from ..settings import Views
from .forecast import CutPlan, RungPlan

__all__ = ["MakeOptimizer", "Probe"]

PROBE_SECONDS = 2.0
"""So long an epoch of full training on the probe should take; it has 8 to 1,024 images."""

MEASURED_EPOCHS = 3
"""Over the probe, the first of them not counted."""

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


class Probe:
    """Copies of the model that train on a few images, each in its own way."""

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset[Any],
        batch_size: int,
        make_optimizer: MakeOptimizer,
        *,
        samples: int | None,
        seed: int,
        memory_budget: int,
        options: dict[str, Any],
    ) -> None:
        views = Views.of(options["views"])
        self._refresh_every, self._automatic = views.refresh_every, views.asked is None
        # What is drawn anew is priced as a share of a build: few chunks show it in jumps.
        options = {**options, "views": replace(views, refresh_every=None, record="ahead")}
        self._model, self._dataset, self._options = model, dataset, options
        self._batch_size, self._make_optimizer, self._memory_budget = batch_size, make_optimizer, memory_budget
        self._ids = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
        self.samples = len(self._ids) if samples is None else samples
        self.count = min(8, len(self._ids))
        """Images that are measured on."""

    def look(self, probe: int | None) -> tuple[Cut, ...]:
        """The cuts of the model; and so many images are measured on as are given, or as two seconds take."""
        if probe is None:
            with self._freezer(policy="none") as (freezer, optimizer):
                cuts = freezer.cuts
                a_sample = _epoch_seconds(freezer, optimizer, 2) / self.count
            fits = min(1024, round(PROBE_SECONDS / a_sample))
            whole = fits // self._batch_size * self._batch_size
            self.count = min(len(self._ids), max(8, whole or fits))
            return cuts
        self.count = min(probe, len(self._ids))
        with self._freezer(policy="none") as (freezer, _):
            return freezer.cuts

    def full_seconds(self) -> float:
        """Of one epoch of full training."""
        with self._freezer(policy="none") as (freezer, optimizer):
            return self._scaled(_epoch_seconds(freezer, optimizer))

    def frozen(self, cut: Cut) -> CutPlan:
        """What was measured with all in front of `cut` frozen from the start."""
        frozen: dict[str, Any] = {"policy": {0: cut.index + 1}}
        with self._freezer(**frozen, mode="recompute") as (freezer, optimizer):
            recompute = self._scaled(_epoch_seconds(freezer, optimizer))
        kept = round(self._memory_budget * self.count / self.samples)
        with self._freezer(**frozen, mode="cache", memory_budget=kept) as (freezer, optimizer):
            began = time.perf_counter()
            next(iter(freezer.batches(0)))
            settled = time.perf_counter() - began
            read = self._scaled(_epoch_seconds(freezer, optimizer))
            record = next(record for record in freezer.history if record["event"] == "freeze")
        built = max(1, record["views"])
        chosen = next(rung for rung in record["rungs"] if rung["chosen"])
        beside = sum(other["bytes_per_sample"] for other in record["beside"]) + record["journal_bytes"] / self.count
        targets = record["target_bytes"] / self.count
        rungs = tuple(
            RungPlan(
                codec=rung["codec"],
                harm=rung["kl"],
                view_bytes=self._bytes(rung["bytes_per_sample"] + beside + targets),
                further_bytes=self._bytes(
                    record["further"]["bytes_per_sample"] * rung["bytes_per_sample"] / chosen["bytes_per_sample"]
                    + beside
                ),
                chosen=rung["chosen"],
            )
            for rung in record["rungs"]
            if rung["bytes_per_sample"] > 0
        )
        return CutPlan(
            cut=cut,
            recompute_seconds=recompute,
            read_seconds=read,
            build_seconds=self._scaled(record["build_seconds"] / built),
            prepare_seconds=max(0.0, settled - record["build_seconds"]) * min(256, self.samples) / min(256, self.count),
            dense_bytes=self._bytes(4 * sum(prod(tensor.shape or (0,)) for tensor in cut.tensors)),
            rungs=rungs,
            views=built,
            refresh_every=self._refresh_every,
            automatic=self._automatic and built > 1,
        )

    def _scaled(self, seconds: float) -> float:
        return seconds * self.samples / self.count

    def _bytes(self, per_sample: float) -> int:
        return round(per_sample * self.samples)

    def _freezer(self, **options: Any) -> Trained:
        (model,) = deep_copied(self._model)
        model.train()
        set_apart(model, self._model)  # hooks are not copied with a model
        optimizer = self._make_optimizer(model)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        freezer = Freezer(
            model,
            Subset(self._dataset, self._ids[: self.count].tolist()),
            batch_size=min(self._batch_size, self.count),
            epochs=1_000,
            optimizer=optimizer,
            verbose=False,
            **{**self._options, **options},
        )
        return Trained(freezer, optimizer)


class Trained:
    """A freezer and its optimizer, closed behind the block."""

    def __init__(self, freezer: Freezer, optimizer: torch.optim.Optimizer) -> None:
        self._freezer, self._optimizer = freezer, optimizer

    def __enter__(self) -> tuple[Freezer, torch.optim.Optimizer]:
        return self._freezer, self._optimizer

    def __exit__(self, *_: object) -> None:
        self._freezer.close()


def _epoch_seconds(freezer: Freezer, optimizer: torch.optim.Optimizer, epochs: int = MEASURED_EPOCHS) -> float:
    """Median wall seconds of an epoch, the first not counted. Long ones are measured once."""
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < epochs and sum(seconds) < 2 * PROBE_SECONDS):
        began = time.perf_counter()
        for inputs, _ in freezer.batches(len(seconds)):
            torch.autograd.backward(sum_of(freezer(inputs)))
            optimizer.step()
            optimizer.zero_grad()
        if freezer.device.type == "cuda":
            torch.cuda.synchronize(freezer.device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])
