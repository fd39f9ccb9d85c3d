"""Cuts, and a stand-in for a watched model, on which each criterion's numbers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hoarfrost import Cut, TrainState


def cut(name: str, index: int, share: float, recommended: bool = True) -> Cut:
    return Cut(
        name=name,
        call=0,
        index=index,
        shape=(4, 2, 2),
        dtype=torch.float32,
        layout="NCHW",
        prefix_flops=round(1000 * share),
        suffix_flops=1000 - round(1000 * share),
        shared_parameters=(),
        recommended=recommended,
        mutated=False,
    )


NINE = tuple(cut(f"block{index}", index, (index + 1) / 10) for index in range(9))
"""Ten equal segments."""

CUTS = (cut("stem", 0, 0.1, recommended=False), cut("layer1", 1, 0.3), cut("layer2", 2, 0.7), cut("layer3", 3, 0.9))
"""Four segments, and a cut that criteria leave out."""


class Given:
    """Tells what it is given instead of watching: of each asking in turn."""

    def __init__(
        self, norms: Sequence[Sequence[float]] = (), features: Sequence[Sequence[Tensor]] = (), lr: float = 0.1
    ) -> None:
        self._norms, self._features, self.lr = iter(norms), iter(features), lr
        self.cuts, self.references = CUTS, 0

    def gradient_norms(self) -> tuple[float, ...]:
        return tuple(next(self._norms))

    def activations(self, summary: Any, *, reference: bool = False) -> tuple[Tensor, ...]:
        self.references += reference
        kept = next(self._features)
        return tuple(summary(cut, features) for cut, features in zip(self.cuts[1:], kept, strict=True))


def state(
    epoch: int, epochs: int | None = 10, cuts: tuple[Cut, ...] = NINE, observer: Any = None, depth: int = 0
) -> TrainState:
    return TrainState(epoch, epochs, depth, cuts, observer=observer)


def answers(policy: Any, epochs: int = 10, cuts: tuple[Cut, ...] = NINE, observer: Any = None) -> list[int]:
    """What a policy says before each epoch."""
    if hasattr(policy, "prepare"):
        policy.prepare(cuts, epochs)
    return [policy(state(epoch, epochs, cuts, observer)) for epoch in range(epochs)]
