"""The ways of augmenting stored features that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hoarfrost import Selection, Views

__all__ = ["ARMS", "Arm", "RandomChannels"]


@dataclass(frozen=True)
class RandomChannels(Selection):
    """As many channels as by sensitivity, drawn at random: what a criterion has to beat."""

    def choose(self, sensitivity: Tensor, bytes_per_channel: float | Sequence[float] | Tensor | None = None) -> Tensor:
        drawn = torch.rand(len(sensitivity), generator=torch.Generator().manual_seed(len(sensitivity)))
        return super().choose(drawn, bytes_per_channel)


@dataclass(frozen=True)
class Arm:
    """One way of going on behind the freeze.

    Attributes:
        group: under which heading the page shows it.
        frozen: False for full training going on.
        options: of the Freezer.
    """

    name: str
    group: str
    frozen: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def once(self) -> bool:
        """Whether what is stored is never computed anew."""
        return self.frozen and self.options.get("mode") != "recompute" and self._views.refresh_every is None

    def passes(self, epochs: int, stored: int = 2) -> float:
        """How often the front runs over the data in so many epochs behind the freeze.

        Once for each view, which is drawn anew when it is shown; in every epoch where nothing is stored.

        Args:
            stored: views, where the arm does not say how many.
        """
        if not self.frozen or self.options.get("mode") == "recompute":
            return float(epochs)
        count, every = self._views.count if "views" in self.options else stored, self._views.refresh_every
        return float(count) if every is None else count + (epochs - count) * min(1.0, count / every)

    @property
    def _views(self) -> Views:
        return Views.of(self.options.get("views", 2))


WHOLE = Selection(share=1.0)

LADDER = (8, 6, 5, 4, 3, 2)
"""Whole bits, each channel's own: what all arms store with, so that the ways of augmenting differ in nothing else. The
default has a codec of its own."""


def _arms() -> list[Arm]:
    def views(**options: Any) -> dict[str, Any]:
        return {"ladder": LADDER, "views": Views(**options)}

    arms = [
        Arm("full training", "references", frozen=False),
        Arm("conventional freezing, live augmentation", "references", options={"mode": "recompute"}),
        Arm("Hoarfrost's default", "references"),
        Arm("2 views, by threshold", "views", options=views(count=2, channels=Selection(threshold=0.05))),
        Arm("no augmentation", "without random views", options=views(count=1, base="clean")),
        Arm(
            "feature space alone, clean base", "without random views", options=views(count=1, base="clean", derived=1.0)
        ),
        Arm("feature space alone, random base", "without random views", options=views(count=1, derived=1.0)),
    ]
    arms += [
        Arm(f"{count} view{'s' * (count > 1)}, whole", "views", options=views(count=count, channels=WHOLE))
        for count in (1, 2, 4, 8)
    ]
    arms.append(Arm("2 views, whole, the first clean", "views", options=views(count=2, channels=WHOLE, base="clean")))
    for share in (0.0, 0.1, 0.25, 0.5):
        for metric in ("cosine", "energy", "harm") if share == 0.25 else ("cosine", "harm"):
            if share or metric == "cosine":
                chosen = views(count=2, channels=Selection(share=share), metric=metric)
                name = f"2 views, {share:.0%} by {metric}" if share else "2 views, 0%"
                arms.append(Arm(name, "channels", options=chosen))
        if share:
            drawn = views(count=2, channels=RandomChannels(share=share))
            arms.append(Arm(f"2 views, {share:.0%} at random", "channels", options=drawn))
    arms += [
        Arm(f"2 views, whole, {bits} bits", "bits", options={**views(count=2, channels=WHOLE), "ladder": bits})
        for bits in (8, 6, 4, 3, 2)
    ]
    arms += [
        Arm(f"2 views, the second at {bits} bits", "bits", options=views(count=2, channels=WHOLE, bits=bits))
        for bits in (3,)
    ]
    arms += [
        Arm("2 views, the second as differences", "bits", options=views(count=2, channels=WHOLE, residual=True)),
        Arm("4 views, whole, 3 bits", "bits", options={**views(count=4, channels=WHOLE), "ladder": 3}),
    ]
    arms += [
        Arm(
            f"{count} view{'s' * (count > 1)}, drawn anew every {every} epoch{'s' * (every > 1)}",
            "refresh",
            options=views(count=count, channels=WHOLE, refresh_every=every),
        )
        for count, every in ((1, 1), (1, 3), (1, 10), (2, 3), (2, 10))
    ]
    arms += [
        Arm(
            f"{count} view{'s' * (count > 1)}, {share:.0%} of the chunks moved in feature space",
            "moved",
            options=views(count=count, channels=WHOLE, derived=share),
        )
        for count, share in ((1, 0.5), (2, 0.25))
    ]
    return arms


ARMS: dict[str, Arm] = {arm.name: arm for arm in _arms()}
