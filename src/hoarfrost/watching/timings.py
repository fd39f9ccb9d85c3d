"""Where the time of a training step goes: one pass with a stamp at each cut tells what is spent on either side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..costs import sum_of
from ..cuts import Cut, Example, Precision, called, first_tensor
from .copies import unfrozen_copy
from .hooks import at_cuts, cuda_devices

__all__ = ["StepTimes", "step_times"]

REPEATS = 3


@dataclass(frozen=True)
class StepTimes:
    """Wall seconds of one batch.

    Attributes:
        full: forward and backward of the whole model in train mode.
        suffixes: likewise behind each cut.
        prefixes: forward in front of each cut, in eval, without gradients.
        features: of that forward pass, at the first cut.
    """

    full: float
    suffixes: tuple[float, ...]
    prefixes: tuple[float, ...]
    features: Tensor


def step_times(model: nn.Module, cuts: Sequence[Cut], inputs: Example, precision: Precision | None = None) -> StepTimes:
    """Medians over three passes, after one that is not counted.

    All is done with a copy of the model: its parameters, buffers, gradients and the random state stay as they are.

    Args:
        precision: of the forward passes; None: what is around this call.
    """
    precision = precision or Precision.around(first_tensor(inputs).device)
    duplicate = unfrozen_copy(model)
    with torch.random.fork_rng(devices=cuda_devices(inputs)):
        duplicate.train()
        training = [_stamped(duplicate, cuts, inputs, precision, backward=True) for _ in range(REPEATS + 1)][1:]
        duplicate.eval()
        with torch.no_grad():
            passes = [_stamped(duplicate, cuts, inputs, precision, backward=False) for _ in range(REPEATS)]
    return StepTimes(
        full=statistics.median(stamps.end - stamps.begin for stamps in training),
        suffixes=tuple(statistics.median(stamps.behind(n) for stamps in training) for n in range(len(cuts))),
        prefixes=tuple(
            statistics.median(stamps.forward[n] - stamps.begin for stamps in passes) for n in range(len(cuts))
        ),
        features=passes[-1].features[0],
    )


@dataclass
class _Stamps:
    """Times of one pass: of its begin, at each cut on the way there and back, and of its end."""

    begin: float = 0.0
    end: float = 0.0
    forward: dict[int, float] = field(default_factory=dict)
    backward: dict[int, float] = field(default_factory=dict)
    features: dict[int, Tensor] = field(default_factory=dict)

    def behind(self, number: int) -> float:
        """Seconds between the cut on the way there and on the way back; to the end, where no gradient reaches it."""
        return self.backward.get(number, self.end) - self.forward[number]


def _stamped(
    model: nn.Module, cuts: Sequence[Cut], inputs: Example, precision: Precision, *, backward: bool
) -> _Stamps:
    stamps = _Stamps()

    def stamp(number: int, features: Tensor) -> None:
        stamps.forward[number] = _now(features)
        if features.requires_grad:
            features.register_hook(lambda gradient: stamp_backward(number, gradient))  # type: ignore[no-untyped-call]
        elif number == 0:
            stamps.features[0] = features.clone()

    def stamp_backward(number: int, gradient: Tensor) -> None:
        stamps.backward[number] = _now(gradient)

    with at_cuts(model, cuts, stamp):
        stamps.begin = _now(first_tensor(inputs))
        with precision.autocast():
            output = called(model, inputs)
        if backward:
            torch.autograd.backward(sum_of(output))
        stamps.end = _now(first_tensor(inputs))
    for parameter in model.parameters():
        parameter.grad = None
    return stamps


def _now(tensor: Tensor) -> float:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
    return time.perf_counter()
