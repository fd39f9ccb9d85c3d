"""What an epoch would cost at each depth, from a few steps timed on a copy of the model."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

from ..codecs import Shared
from ..costs import automatic_views, seconds_of
from ..cuts import Cut, Example, Precision, candidate_cuts, count_of
from .timings import step_times

__all__ = ["DepthPrice", "Prices", "measure_prices"]

CALIBRATED = 256
"""Samples of a calibration."""
RUNS = 24
"""Forward passes of the suffix over them, about: so many does a ladder take that is bisected twice."""
ESTIMATED = 1024
"""Images that batch norms' statistics are estimated from."""


@dataclass(frozen=True)
class DepthPrice:
    """What a depth costs, in seconds for all samples.

    Attributes:
        suffix: forward and backward of what still trains, and the step.
        prefix: forward of the frozen front.
        read: to decode its features.
        settle: once, to choose a rung and whether to store.
    """

    depth: int
    suffix: float
    prefix: float
    read: float
    settle: float


@dataclass(frozen=True)
class Prices:
    """What an epoch costs in full and at each candidate depth, timed on a few steps.

    Attributes:
        step: forward and backward of the whole model, for one epoch.
        images: to read and render the images of one epoch.
        views: that a freeze would store; 0: it recomputes; None: that is left to be told.
    """

    step: float
    images: float
    views: int | None
    depths: tuple[DepthPrice, ...]

    @property
    def full(self) -> float:
        """Seconds of an epoch without freezing."""
        return self.step + self.images

    def frozen(self, depth: int, epochs: int, before: int = 0) -> tuple[float, float]:
        """Seconds once, and of an epoch, with all up to `depth` frozen for so many epochs: the cheaper way.

        Args:
            before: epochs of the training until then.
        """
        price = next(price for price in self.depths if price.depth == depth)
        rendered = self.images + price.prefix
        ways = [(price.settle, rendered + price.suffix)]
        views, least = self.views, 1
        if views is None:
            views, least = automatic_views(epochs, before, price.suffix / max(rendered, 1e-9))
        ways += [(price.settle + n * rendered, price.read + price.suffix) for n in range(1, views + 1)]
        # More views where they are paid for: as `costs.decide` does, each is to be seen three times or more.
        cheapest = min(ways[:2], key=lambda way: way[0] + epochs * way[1])
        return cheapest if cheapest == ways[0] else ways[max(1, min(views, max(least, epochs // 3)))]

    def to_config(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Prices:
        """From `to_config()`."""
        return cls(**{**config, "depths": tuple(DepthPrice(**price) for price in config["depths"])})


def measure_prices(
    model: nn.Module,
    cuts: Sequence[Cut],
    batches: Iterator[tuple[Example, Tensor | None]],
    *,
    samples: int,
    views: int | None,
    precision: Precision | None = None,
) -> Prices:
    """Time a few steps on a copy of the model, and the rendering of a few batches.

    Args:
        batches: of the coming epoch, as they would be trained on.
        samples: in an epoch.
        views: that a freeze would store; 0: it recomputes; None: that is left to be told.
        precision: of the passes; None: what is around this call.
    """
    cuts = candidate_cuts(cuts)
    batch, _ = next(batches)
    began, rendered = time.perf_counter(), 0
    for inputs, _ in itertools.islice(batches, 3):
        rendered += count_of(inputs)
    rendering = (time.perf_counter() - began) / rendered if rendered else 0.0
    times = step_times(model, cuts, batch, precision)
    size = count_of(batch)
    a_batch = samples / size
    decoding = _decoding(times.features, cuts[0].channel_axis)
    return Prices(
        step=times.full * a_batch,
        images=rendering * samples,
        views=views,
        depths=tuple(
            DepthPrice(
                depth=cut.index + 1,
                suffix=suffix * a_batch,
                prefix=prefix * a_batch,
                read=decoding * sum(prod(tensor.shape or (0,)) for tensor in cut.tensors) * samples,
                # A forward pass is about a third of forward and backward; statistics are estimated before.
                settle=RUNS * suffix / 3 * min(CALIBRATED, samples) / size
                + (prefix / size + rendering) * min(ESTIMATED, samples),
            )
            for cut, suffix, prefix in zip(cuts, times.suffixes, times.prefixes, strict=True)
        ),
    )


def _decoding(features: Tensor, channel_axis: int) -> float:
    """Seconds to decode one value of features like these [N, ...]."""
    codec = Shared(16)
    features = features.detach().cpu()
    payload = codec.encode(features, channel_axis)
    return seconds_of(lambda: codec.decode(payload, features.shape, features.dtype, channel_axis)) / features.numel()
