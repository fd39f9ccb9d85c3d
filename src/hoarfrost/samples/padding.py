"""Whether what a model gives for a sample depends on how far its batch is padded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..codecs import evaluating
from ..cuts import Example, called, shadow, tensors_in
from .lengths import Lengths, why_too_short
from .training_data import TrainingData

__all__ = ["why_padding_counts"]

SHORT = 4
"""Samples that are shown alone and padded."""


def why_padding_counts(model: nn.Module, data: TrainingData) -> str | None:
    """Why no features of differing lengths can be stored, in words; None where they can, or all have one length.

    A collate must not cut a batch shorter than its samples are alone. Short samples are shown alone, and beside a long
    one, in eval. Where outputs differ by more than rounding, the padding itself is looked at: a mask is missing, say,
    or a window of a convolution reaches over a sample's end, and then it matters who stands beside whom.
    """
    lengths = data.samples.lengths
    if lengths is None:
        return None
    body, _ = shadow(model)  # which leaves nothing behind on the user's modules
    reasons = (_why_at_a_call(body, data, lengths, call) for call in range(len(lengths.own)))
    return next((reason for reason in reasons if reason is not None), None)


def _why_at_a_call(body: nn.Module, data: TrainingData, lengths: Lengths, call: int) -> str | None:
    of_call, draw = lengths.own[call], data.samples.pipeline.still(len(data.samples))
    short, long = _short_and_long(of_call)

    def outputs(inputs: Example) -> list[Tensor]:
        with torch.random.fork_rng(devices=[]):
            return tensors_in(called(body, inputs))

    together = data.calls(torch.tensor([*short, long]), draw)[call]
    length = data.samples.form.main_argument(together).shape[lengths.axis]
    cut = why_too_short(length, int(of_call[long]))
    if cut is not None:
        return cut
    with evaluating(body):
        beside = outputs(together)
        for row, sample in enumerate(short):
            own = int(of_call[sample])
            pairs = zip(outputs(data.calls(torch.tensor([sample, sample]), draw)[call]), beside, strict=False)
            rows = [(near, far[row]) for near, far in pairs if far.dim() and len(far) == len(short) + 1]
            if all(_apart(near, far, lengths, own) <= 1.0 for near, far in rows):
                continue
            return (
                f"what {type(body).__name__} gives for a sample of {own} changes when its batch is padded "
                f"to {int(of_call[long])}: stored features have no padding. Let the data give the model a mask or "
                "lengths, as inputs of it, or pad to a fixed length"
            )
    return None


def _short_and_long(own: Tensor) -> tuple[list[int], int]:
    """Samples of about half the longest, and the longest.

    The short ones leave other rests: a window of stride 2 may reach over the end of every other length only.
    """
    long = int(own.argmax())
    by_rest: dict[int, int] = {}
    for sample in (own - own[long] / 2).abs().argsort(stable=True).tolist():
        if own[sample] < own[long]:
            by_rest.setdefault(int(own[sample]) % SHORT, sample)
    return [*by_rest.values()], long


def _apart(near: Tensor, far: Tensor, lengths: Lengths, own: int) -> float:
    """How far apart a sample's outputs are, alone [2, ...] and beside others [...], in units of what rounding may do; 0
    for what has no row for it."""
    if not near.is_floating_point() or near.dim() == 0 or len(near) != 2:
        return 0.0
    mine, its = _inside(near[0], far, lengths, own)
    if mine.shape != its.shape:
        return 0.0
    kind = near.device.type
    coarse = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else near.dtype
    # A window that reaches over the end shows in one of many steps: little. On other devices a float32 product may be
    # one of TF32.
    step = torch.finfo(coarse).eps
    share = 10 * step**0.75 if kind == "cpu" else 3 * step**0.5
    allowed = share * max(1e-30, mine.abs().max().item())
    return (mine.double() - its.double()).abs().max().item() / allowed if mine.numel() else 0.0


def _inside(near: Tensor, far: Tensor, lengths: Lengths, own: int) -> Sequence[Tensor]:
    """What is no padding of two outputs that are as long as their batches."""
    axes = [axis for axis, (a, b) in enumerate(zip(near.shape, far.shape, strict=False)) if a != b]
    if near.dim() != far.dim() or len(axes) != 1 or own > near.shape[axes[0]]:
        return near, far
    (axis,) = axes
    return [t.narrow(axis, t.shape[axis] - own if lengths.at_end else 0, own) for t in (near, far)]
