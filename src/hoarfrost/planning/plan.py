"""What freezing would cost and save, before anything is trained: a few batches are measured at each cut."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from ..codecs import Codec, Ladder
from ..costs.flops import sum_of
from ..cuts import Cut, find_cut
from ..errors import ArgumentError, UnwatchedError
from ..freezer import Freezer
from ..policies import Policy, TrainState, resolve_policy
from ..policies.asking import checked_depth
from ..policies.policy import prepared
from ..settings import Views
from .forecast import CutPlan, Plan, RungPlan, stages_of

__all__ = ["plan"]

PROBE_SECONDS = 2.0
"""So long an epoch of full training on the probe should take; it has 8 to 1,024 images."""

MEASURED_EPOCHS = 3
"""Over the probe, the first of them not counted."""

MOST_CUTS = 6
"""Recommended cuts that are measured by default beside those of the policy; of more, such that spread the FLOPs."""

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


def plan(
    model: nn.Module,
    dataset: Dataset[Any],
    *,
    batch_size: int,
    epochs: int,
    transform: Callable[[Any], Any] | None = None,
    policy: str | Policy | Mapping[int, str | int] = "schedule",
    cuts: Sequence[str | int] | None = None,
    optimizer: MakeOptimizer | None = None,
    disk_budget: int | None = None,
    views: int | Views = 2,
    ladder: str | int | Codec | Ladder | Sequence[int | Codec] = "auto",
    tolerance: float = 1e-3,
    mode: str = "auto",
    memory_budget: int = 256 << 20,
    workers: int = 0,
    channels_last: bool = False,
    device: str | torch.device | None = None,
    samples: int | None = None,
    probe: int | None = None,
    seed: int = 0,
    on_cut: Callable[[int, int], None] | None = None,
) -> Plan:
    """Predict what freezing at each cut, and the whole schedule, would cost against full training.

    A copy of the model goes through the real thing on a few images (`probe`): full training, freezing by recomputing,
    freezing with a cache that is built and read. Seconds and bytes are scaled to all samples; the choice between
    reading and recomputing is `hoarfrost.costs.decide`'s, as in `Freezer`. Model and data set are left as they are.

    Args:
        model, dataset, transform, batch_size, epochs, policy, disk_budget, views, ladder, tolerance, mode,
            memory_budget, workers, channels_last, device: as for `Freezer`.
        cuts: labels or indices to look at; None: those of the policy, and up to six recommended ones.
        optimizer: model -> the optimizer that will be used; None: SGD with momentum. Its rate is set to 0.
        samples: to predict for, where the data themselves are elsewhere; None: those of `dataset`.
        probe: images to measure on; None: as many as two seconds of full training take.
        seed: of the images that are taken.
        on_cut: called with how many cuts are done and how many there are.

    Raises:
        ArgumentError: an argument of the wrong kind or out of range.
        NoCutError, UnknownCutError, PolicyError, DatasetError: as for `Freezer`.
    """
    for name, value, least in (("epochs", epochs, 1), ("samples", samples, 1), ("probe", probe, 2)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ArgumentError(f"{name} must be a whole number of at least {least}, not {value!r}")
    asked = copy.deepcopy(resolve_policy(policy))  # asking may teach it
    probing = _Probing(
        model,
        dataset,
        batch_size,
        optimizer or (lambda model: torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)),
        samples=samples,
        seed=seed,
        memory_budget=memory_budget,
        options={
            "transform": transform,
            "views": views,
            "ladder": ladder,
            "tolerance": tolerance,
            "workers": workers,
            "channels_last": channels_last,
            "device": device,
            "seed": seed,
        },
    )
    available = probing.look(probe)
    prepared(asked, available, epochs)
    try:
        depths = _depths(asked, available, epochs)
    except (LookupError, UnwatchedError):
        depths = None
    wanted = _wanted(available, cuts, depths or [])
    full = probing.full_seconds()
    measured: dict[str, CutPlan] = {}
    for number, cut in enumerate(wanted):
        if on_cut is not None:
            on_cut(number, len(wanted))
        measured[cut.label] = probing.frozen(cut)
    stages = () if depths is None else stages_of(asked, available, depths, measured, full, disk_budget, mode)
    return Plan(
        samples=probing.samples,
        epochs=epochs,
        batch_size=batch_size,
        probe=probing.count,
        full_seconds=full,
        disk_budget=disk_budget,
        cuts=tuple(measured.values()),
        stages=stages,
    )


class _Probing:
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
        self._refresh_every = views.refresh_every
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
        beside = sum(other["bytes_per_sample"] for other in record["beside"])
        rungs = tuple(
            RungPlan(
                codec=rung["codec"],
                harm=rung["kl"],
                view_bytes=self._bytes(rung["bytes_per_sample"] + beside),
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
        )

    def _scaled(self, seconds: float) -> float:
        return seconds * self.samples / self.count

    def _bytes(self, per_sample: float) -> int:
        return round(per_sample * self.samples)

    def _freezer(self, **options: Any) -> _Trained:
        model = copy.deepcopy(self._model).train()
        optimizer = self._make_optimizer(model)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        freezer = Freezer(
            model,
            Subset(self._dataset, self._ids[: self.count].tolist()),
            batch_size=min(self._batch_size, self.count),
            epochs=1_000,
            optimizer=optimizer,
            **{**self._options, **options},
        )
        return _Trained(freezer, optimizer)


class _Trained:
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


def _depths(policy: Policy, cuts: tuple[Cut, ...], epochs: int) -> list[int]:
    """The depth in each epoch.

    Raises:
        LookupError, UnwatchedError: the policy goes by what it would see in training.
    """
    depth, found = 0, []
    for epoch in range(epochs):
        depth = checked_depth(policy, TrainState(epoch, epochs, depth, cuts), depth)
        found.append(depth)
    return found


def _wanted(cuts: tuple[Cut, ...], asked: Sequence[str | int] | None, depths: Sequence[int]) -> list[Cut]:
    """The cuts to look at, from the front."""
    of_policy = {depth - 1 for depth in depths if depth}
    if asked is not None:
        return [cuts[n] for n in sorted(of_policy | {find_cut(cuts, name).index for name in asked})]
    recommended = [cut for cut in cuts if cut.recommended] or list(cuts)
    if len(recommended) <= MOST_CUTS:
        return [cuts[n] for n in sorted(of_policy | {cut.index for cut in recommended})]
    total = max(1, *(cut.prefix_flops + cut.suffix_flops for cut in recommended))
    shares = [(n + 1) / (MOST_CUTS + 1) for n in range(MOST_CUTS)]
    spread = {min(recommended, key=lambda cut: abs(cut.prefix_flops / total - share)).index for share in shares}
    return [cuts[n] for n in sorted(of_policy | spread)]
