"""What freezing a model by name would cost and save, to be shown: at each cut, and over the whole training."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from ..data import Data, photo_like
from ..errors import ArgumentError
from ..report import Table, format_bytes, format_seconds
from ..running import RunConfig, Setup, make_optimizer
from .forecast import CutPlan, Plan, RungPlan, Stage
from .plan import plan

__all__ = ["Elsewhere", "ModelPlan"]

STAND_INS = 256
"""Images that stand for data that are elsewhere."""


@dataclass(frozen=True)
class Elsewhere:
    """Data that are not on this machine, by their size.

    Attributes:
        samples: images of the training set.
        image_size: pixels that images are brought to.
    """

    samples: int
    image_size: int = 224
    channels: int = 3
    classes: int = 1000

    def __post_init__(self) -> None:
        for name in ("samples", "image_size", "classes"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1, not {getattr(self, name)!r}")

    def stand_in(self, seed: int) -> Data:
        """Images with the spectrum of photographs in their place."""
        side = round(self.image_size * 256 / 224) if self.channels == 3 else self.image_size
        count = min(self.samples, STAND_INS)
        images = photo_like(count, side, channels=self.channels, classes=self.classes, seed=seed)
        names = tuple(str(number) for number in range(self.classes))
        return Data(images, images, names, f"{self.samples:,} images", self.channels, self.image_size)


@dataclass(frozen=True)
class ModelPlan:
    """A plan for a model and data by name, to be shown.

    Attributes:
        data: as they were named.
        synthetic: whether images stood for them that only resemble photographs.
    """

    config: RunConfig
    data: str
    synthetic: bool
    plan: Plan

    @classmethod
    def of(
        cls,
        config: RunConfig,
        *,
        elsewhere: Elsewhere | None = None,
        cuts: Sequence[str] | None = None,
        probe: int | None = None,
        on_cut: Callable[[int, int], None] | None = None,
    ) -> ModelPlan:
        """Measure what `hoarfrost train` would do with this configuration.

        Args:
            elsewhere: in place of the configuration's data.
            cuts, probe, on_cut: as in `hoarfrost.plan`.

        Raises:
            HoarfrostError: as `hoarfrost.plan`, or no such model or data.
        """
        setup = Setup.of(config, None if elsewhere is None else elsewhere.stand_in(config.rendering.seed))
        taken = signature(plan).parameters.keys() - {"cuts"}  # those to look at, not those of several layers
        found = plan(
            setup.model,
            setup.train_set,
            transform=setup.train_transform,
            cuts=cuts,
            optimizer=lambda model: make_optimizer(config, model),
            samples=None if elsewhere is None else elsewhere.samples,
            probe=probe,
            on_cut=on_cut,
            **{name: value for name, value in config.keywords.items() if name in taken},
        )
        return cls(config, setup.data.name, elsewhere is not None, found)

    @property
    def cuts_table(self) -> Table:
        """Each cut: what it stores, and what an epoch takes."""
        found = self.plan
        return Table(
            title=(
                f"{self.config.model}, {found.samples:,} images, batches of {found.batch_size}: "
                f"an epoch of full training takes {format_seconds(found.full_seconds)}"
            ),
            header=["cut", "rung", "harm", "stored", "fp32", "build", "recompute", "read", "pays"],
            rows=[self._row(cut) for cut in found.cuts],
            note=(
                f"measured on {found.probe} images {'that stand for' if self.synthetic else 'of'} {self.data}; "
                "stored, fp32 and build: of all views; recompute and read: an epoch with all in front of the cut "
                "frozen; pays: from how many epochs on storing does"
            ),
        )

    @property
    def rungs_tables(self) -> list[Table]:
        """For each cut what its rungs would do and take."""
        return [
            Table(
                title=f"{found.cut.label}: rungs of the ladder",
                header=["rung", "harm", "stored", "below fp32"],
                rows=[
                    [
                        _codec(rung),
                        f"{rung.harm:.1e}",
                        format_bytes(rung.nbytes(found.views)),
                        f"{found.views * found.dense_bytes / max(1, rung.nbytes(found.views)):.1f}x",
                    ]
                    for rung in found.rungs
                ],
                emphasis=found.rungs.index(found.rung),
            )
            for found in self.plan.cuts
        ]

    @property
    def stages_table(self) -> Table:
        """The training, depth by depth."""
        found = self.plan
        what = self.config.points if found.stages else "a policy that decides as it goes"
        return Table(
            title=f"{found.epochs} epochs, {what}",
            header=["epochs", "frozen up to", "by", "views", "stored", "takes", "in full"],
            rows=[self._stage(stage) for stage in found.stages],
            note=self._words,
        )

    def plain(self) -> dict[str, Any]:
        """For programs."""
        return {"model": self.config.model, "data": self.data, "synthetic": self.synthetic, **self.plan.plain()}

    @staticmethod
    def _row(found: CutPlan) -> list[str]:
        rung, views, after = found.rung, found.views, found.break_even
        return [
            found.cut.label,
            _codec(rung),
            f"{rung.harm:.1e}",
            format_bytes(rung.nbytes(views)),
            format_bytes(views * found.dense_bytes),
            format_seconds(views * found.build_seconds),
            format_seconds(found.recompute_seconds),
            format_seconds(found.read_seconds),
            "never" if after is None else f"{after:.1f}",
        ]

    def _stage(self, stage: Stage) -> list[str]:
        return [
            f"{stage.epoch}–{stage.epoch + stage.epochs - 1}",
            stage.cut or "nothing",
            stage.choice,
            str(stage.views or "–"),
            format_bytes(stage.nbytes) if stage.nbytes else "–",
            format_seconds(stage.seconds),
            format_seconds(stage.epochs * self.plan.full_seconds),
        ]

    @property
    def _words(self) -> str:
        found, total = self.plan, self.plan.total_seconds
        lines = []
        if total is not None:
            full = found.full_total_seconds
            most = max((stage.nbytes for stage in found.stages), default=0)
            lines.append(
                f"{format_seconds(total)} in place of {format_seconds(full)}, {full / total:.2f}x, "
                f"with up to {format_bytes(most)} on disk"
            )
        lines += [stage.reason for stage in found.stages if stage.cut is not None]
        if self.synthetic:
            lines.append(
                "seconds are this machine's, without reading and decoding image files; the rung and its bytes depend "
                "on the images, and are estimated"
            )
        return "\n".join(lines)


def _codec(rung: RungPlan) -> str:
    """`Linear(bits=4)` and `Shared(levels=11)` as people say it."""
    return re.sub(r"\w+\((\w+)=(\w+)\)", r"\2 \1", rung.codec).replace("()", "")
