"""Whether what a model gives for a sample depends on how far its batch is padded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..codecs import evaluating
from ..cuts import called, shadow, tensors_in
from .lengths import Lengths
from .training_data import TrainingData

__all__ = ["why_padding_counts"]


def why_padding_counts(model: nn.Module, data: TrainingData) -> str | None:
    """Why no features of differing lengths can be stored, in words; None where they can, or all have one length.

    A short sample is shown beside another one, and beside a long one, in eval. Where outputs differ by more than
    rounding, the padding itself is looked at: a mask is missing, say, and then it matters who stands beside whom.
    """
    lengths = data.samples.lengths
    if lengths is None:
        return None
    if data.samples.form.further:
        return (
            f"{type(model).__name__} is called several times for each sample, and inputs differ in length: stored "
            "features have no padding, and which is a call's own cannot be told. Pad to a fixed length in the data set"
        )
    short, long = _two_lengths(lengths.own)
    draw, found = data.samples.pipeline.still(len(data.samples)), []
    body, _ = shadow(model)  # which leaves nothing behind on the user's modules
    with evaluating(body):
        for other in (short, long):
            with torch.random.fork_rng(devices=[]):
                outputs = called(body, data.images(torch.tensor([short, other]), draw))
            found.append(tensors_in(outputs))
    own = int(lengths.own[short])
    if all(_apart(near, far, lengths, own) <= 1.0 for near, far in zip(*found, strict=False)):
        return None
    return (
        f"what {type(model).__name__} gives for a sample of {own} changes when its batch is padded "
        f"to {int(lengths.own[long])}: stored features have no padding. Let the data give the model a mask or lengths, "
        "as inputs of it, or pad to a fixed length"
    )


def _two_lengths(own: Tensor) -> tuple[int, int]:
    """A sample of about half the longest, and the longest."""
    long = int(own.argmax())
    apart = (own - own[long] / 2).abs()
    return int(torch.where(own < own[long], apart, apart.max() + own[long]).argmin()), long


def _apart(near: Tensor, far: Tensor, lengths: Lengths, own: int) -> float:
    """How far apart the first sample's outputs are, in units of what rounding may do; 0 for what has no row for it."""
    if not near.is_floating_point() or near.dim() == 0 or len(near) != 2 or len(far) != 2:
        return 0.0
    mine, its = _inside(near[0], far[0], lengths, own)
    if mine.shape != its.shape:
        return 0.0
    kind = near.device.type
    coarse = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else near.dtype
    allowed = 3 * torch.finfo(coarse).eps ** 0.5 * max(1e-30, mine.abs().max().item())
    return (mine.double() - its.double()).abs().max().item() / allowed if mine.numel() else 0.0


def _inside(near: Tensor, far: Tensor, lengths: Lengths, own: int) -> Sequence[Tensor]:
    """What is no padding of two outputs that are as long as their batches."""
    axes = [axis for axis, (a, b) in enumerate(zip(near.shape, far.shape, strict=False)) if a != b]
    if near.dim() != far.dim() or len(axes) != 1 or own > near.shape[axes[0]]:
        return near, far
    (axis,) = axes
    return [t.narrow(axis, t.shape[axis] - own if lengths.at_end else 0, own) for t in (near, far)]
