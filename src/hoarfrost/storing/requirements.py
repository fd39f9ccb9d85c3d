"""What a model must have to be frozen as told, asked before any training."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ..codecs import evaluating
from ..codecs.outputs import shows
from ..cuts import Cut, Example, InTraining, called, cut_behind, find_cuts, first_tensor, shadow, taken
from ..errors import ArgumentError, NoCutError
from ..samples import TrainingData, why_padding_counts
from ..settings import Settings, Storing
from .cache_specs import storable

__all__ = ["offered"]


def offered(model: nn.Module, data: TrainingData, told: Settings, *, needed: bool) -> tuple[Cut, ...]:
    """The cuts that a model may be frozen up to as told, of which all that crosses can be stored.

    Args:
        needed: whether something will be frozen; then more is asked of the model.

    Raises:
        CutError: as `find_cuts`, or as `cut_behind` where layers are named.
        NoCutError: there is no cut, or inputs differ in length and no features of them can be stored; and one is
            needed.
        ArgumentError: the outputs hold nothing by which harm could be measured.
    """
    freezing, example, other = told.freezing, data.example, data.other_lengths
    counts = why_padding_counts(model, data)
    if counts is not None:
        if needed:
            raise NoCutError(counts)
        return ()
    if freezing.cuts is not None:
        found = [cut_behind(model, example, freezing.cuts, other=other)]
    else:
        found = find_cuts(model, example, max_tensors=freezing.max_tensors, other=other)
    if other is not None:
        # What calls bring themselves is of a batch of another length than what is measured.
        found = [cut for cut in found if not cut.brought]
    for inputs in data.other_sizes:
        if freezing.cuts is not None:
            cut_behind(model, inputs, freezing.cuts)
        else:
            there = {cut.label for cut in find_cuts(model, inputs, max_tensors=freezing.max_tensors)}
            found = [cut for cut in found if cut.label in there]
    found = [replace(cut, index=index) for index, cut in enumerate(found)]
    cuts = storable(found, needed_by=model if needed else None)
    if needed:
        _check_outputs(model, example, told.storing)
    return cuts


def _check_outputs(model: nn.Module, example: Example, storing: Storing) -> None:
    """See that what the model gives can be judged: in eval, or by its losses in training."""
    if storing.mode == "recompute" or callable(storing.harm):
        return
    few, device = taken(example, 2), first_tensor(example).device
    body, _ = shadow(model)  # which leaves nothing behind on the user's modules
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), evaluating(body):
        outputs = called(body, few)
        if shows(outputs) or shows(called(InTraining(body), few)):
            return
    raise ArgumentError(
        f"{type(model).__name__} gives {type(outputs).__name__}, in which there is no tensor with a row for each "
        "sample and no loss, in training neither: how finely features must be stored is measured on outputs. "
        'Give criterion=, a function (outputs, targets) -> loss, or freeze with mode="recompute"'
    )
