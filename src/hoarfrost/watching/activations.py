"""A model's features at its cuts, on a fixed batch of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from ..codecs import evaluating
from ..cuts import Cut, Example, called
from .hooks import at_cuts, cuda_devices

__all__ = ["Summary", "features_at"]

Summary = Callable[[Cut, Tensor], Tensor]
"""What is kept of a cut's features [N, ...]."""


def features_at(
    model: nn.Module, cuts: Sequence[Cut], inputs: Example, summary: Summary | None = None
) -> tuple[Tensor, ...]:
    """The features [N, ...] at each cut, or what `summary` keeps of them, in one forward pass in eval mode.

    Neither training flags nor buffers nor the random state of the model change.
    """
    found: dict[int, Tensor] = {}

    def keep(number: int, features: Tensor) -> None:
        found[number] = features.clone() if summary is None else summary(cuts[number], features)

    with ExitStack() as undo:
        undo.enter_context(torch.random.fork_rng(devices=cuda_devices(inputs)))
        undo.enter_context(evaluating(model))
        # Torch's fused attention reads weights past the modules, and does not know quantised ones.
        undo.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        undo.enter_context(at_cuts(model, cuts, keep))
        called(model, inputs)
    return tuple(found[number] for number in range(len(cuts)))
