"""What freezing would cost and save, before anything is trained: a few batches are measured at each cut."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from ..codecs import Codec, Ladder
from ..cuts import Cut, find_cut
from ..errors import ArgumentError, UnwatchedError
from ..policies import Policy, TrainState, resolve_policy
from ..policies.asking import checked_depth
from ..policies.policy import prepared
from ..settings import Chunks, Noise, Views, takes_method
from .forecast import CutPlan, Plan, stages_of
from .probe import MakeOptimizer, Probe

__all__ = ["plan"]

MOST_CUTS = 6
"""Recommended cuts that are measured by default beside those of the policy; of more, such that spread the FLOPs."""


@takes_method
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
    views: int | str | Views | Mapping[str, Any] = "auto",
    ladder: str | int | Codec | Ladder | Sequence[int | Codec] = "auto",
    tolerance: float = 1e-3,
    mode: str = "auto",
    memory_budget: int = 256 << 20,
    window: int = 16,
    chunks: int | Chunks | Mapping[str, Any] = 64,
    noise: float | Noise | Mapping[str, Any] = 0.0,
    method: str | None = None,
    workers: int = 0,
    channels_last: bool = False,
    precision: str | None = None,
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
            memory_budget, window, chunks, noise, method, workers, channels_last, precision, device: as for `Freezer`.
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
    probing = Probe(
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
            "window": window,
            "chunks": chunks,
            "noise": noise,
            "workers": workers,
            "channels_last": channels_last,
            "precision": precision,
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
