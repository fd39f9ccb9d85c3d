"""How the learning rate runs over a training."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["cosine"]


def cosine(warmup: float = 0.15) -> Callable[[float], float]:
    """The share of the peak rate at a share of the training: a linear rise, then half a cosine down to zero."""

    def rate(done: float) -> float:
        if done < warmup:
            return done / warmup
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))

    return rate
