"""What a training would cost, from what was measured of a few images: the values of a plan, and their arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..costs import Decision, automatic_views, decide, passes_of
from ..cuts import Cut
from ..policies import Policy, TrainState
from ..policies.policy import announced_change

__all__ = ["CutPlan", "Plan", "RungPlan", "Stage", "stages_of"]


@dataclass(frozen=True)
class RungPlan:
    """One rung of the ladder at one cut.

    Attributes:
        harm: of the outputs, in nats, as a freeze measures it; infinite where it was refused.
        view_bytes, further_bytes: of the first view of all samples, with targets and journals, and of each further one.
        chosen: whether a freeze would take it.
    """

    codec: str
    harm: float
    view_bytes: int
    further_bytes: int
    chosen: bool

    def nbytes(self, views: int) -> int:
        """Of so many views."""
        return self.view_bytes + max(0, views - 1) * self.further_bytes


@dataclass(frozen=True)
class CutPlan:
    """What freezing up to one cut costs, for all samples.

    Attributes:
        recompute_seconds, read_seconds: of one epoch, the suffix's training and the rendering of images included; what
            is drawn anew is not.
        build_seconds: of one view.
        prepare_seconds: of the calibration, once for each freeze.
        dense_bytes: of one view in float32.
        rungs: gentle to strong.
        views: that a freeze would store.
        automatic: whether their number is left to be told; `views` is then that of an unknown number of epochs.
        refresh_every: epochs after which each of them is drawn anew; None if it never is.
    """

    cut: Cut
    recompute_seconds: float
    read_seconds: float
    build_seconds: float
    prepare_seconds: float
    dense_bytes: int
    rungs: tuple[RungPlan, ...]
    views: int
    refresh_every: int | None = None
    automatic: bool = False

    @property
    def break_even(self) -> float | None:
        """Epochs from which on storing these views is cheaper than recomputing; None if it never is."""
        return self.decision(None, mode="cache").break_even

    def cache_seconds(self, views: int) -> float:
        """Of one epoch on so many stored views, with what is drawn anew: a view is when it is shown."""
        renewed = 0.0 if self.refresh_every is None else min(1.0, views / self.refresh_every)
        return self.read_seconds + renewed * self.build_seconds

    @property
    def rung(self) -> RungPlan:
        """The one that a freeze would take."""
        return next(rung for rung in self.rungs if rung.chosen)

    def decision(
        self, epochs_left: int | None, disk_budget: int | None = None, mode: str = "auto", *, epochs_before: int = 0
    ) -> Decision:
        """How to go on behind a freeze at this cut: what `Freezer` decides with these seconds and bytes.

        Args:
            epochs_left: as in `decide`.
            epochs_before: the freeze.
        """
        views, least = self.views, 1
        if self.automatic:
            views, least = automatic_views(epochs_left, epochs_before, passes_of(self.cut))
        while views and disk_budget is not None and self.rung.nbytes(views) > disk_budget:
            views -= 1
        if not views:
            need = f"one view takes {self.rung.view_bytes:,} bytes of the {disk_budget:,} that may be used"
            return Decision("recompute", 0, f"recomputed: {need}", None)
        return decide(
            epochs_left=epochs_left,
            views=views,
            recompute_seconds=self.recompute_seconds,
            read_seconds=self.read_seconds,
            view_seconds=self.build_seconds,
            refresh_every=self.refresh_every,
            mode=mode,
            least_views=min(least, views),
        )


@dataclass(frozen=True)
class Stage:
    """A part of the training at one depth.

    Attributes:
        epoch, epochs: the first one, from 0, and how many.
        cut: up to which all is frozen; None: nothing is.
        choice: "images", "cache" or "recompute".
        seconds: of its epochs, with what storing costs.
        nbytes: stored meanwhile.
    """

    epoch: int
    epochs: int
    cut: str | None
    choice: str
    views: int
    seconds: float
    nbytes: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a training would cost, in full and with freezing.

    Attributes:
        samples, epochs: of the training.
        probe: images that were measured on.
        full_seconds: of one epoch without freezing.
        stages: the policy's depths over the epochs; none where the policy goes by what it sees in training.
    """

    samples: int
    epochs: int
    batch_size: int
    probe: int
    full_seconds: float
    disk_budget: int | None
    cuts: tuple[CutPlan, ...]
    stages: tuple[Stage, ...]

    @property
    def full_total_seconds(self) -> float:
        """Of full training."""
        return self.epochs * self.full_seconds

    @property
    def total_seconds(self) -> float | None:
        """With freezing; None where the policy's depths are not known beforehand."""
        return sum(stage.seconds for stage in self.stages) if self.stages else None

    def plain(self) -> dict[str, Any]:
        """For programs: seconds and bytes, as JSON takes it."""
        return {
            "samples": self.samples,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "probe": self.probe,
            "disk_budget": self.disk_budget,
            "full_seconds_per_epoch": self.full_seconds,
            "full_seconds": self.full_total_seconds,
            "seconds": self.total_seconds,
            "cuts": [
                {
                    "cut": found.cut.label,
                    "index": found.cut.index,
                    "features": list(found.cut.shape),
                    "flops_share": found.cut.prefix_flops / max(1, found.cut.prefix_flops + found.cut.suffix_flops),
                    "recompute_seconds_per_epoch": found.recompute_seconds,
                    "read_seconds_per_epoch": found.read_seconds,
                    "build_seconds_per_view": found.build_seconds,
                    "prepare_seconds": found.prepare_seconds,
                    "views": found.views,
                    "dense_bytes_per_view": found.dense_bytes,
                    "break_even_epochs": found.break_even,
                    "rungs": [{**asdict(rung), "nbytes": rung.nbytes(found.views)} for rung in found.rungs],
                }
                for found in self.cuts
            ],
            "stages": [asdict(stage) for stage in self.stages],
        }


def stages_of(
    policy: Policy,
    cuts: tuple[Cut, ...],
    depths: Sequence[int],
    measured: Mapping[str, CutPlan],
    full: float,
    disk_budget: int | None,
    mode: str,
) -> tuple[Stage, ...]:
    """The parts of a training whose epochs have these depths.

    Args:
        measured: by the label of their cuts, all that the depths name.
        full: seconds of an epoch without freezing.
    """
    epochs, stages = len(depths), []
    begins = [epoch for epoch in range(epochs) if epoch == 0 or depths[epoch] != depths[epoch - 1]]
    for begin, end in zip(begins, [*begins[1:], epochs], strict=True):
        depth, count = depths[begin], end - begin
        if not depth:
            stages.append(Stage(begin, count, None, "images", 0, count * full, 0, "nothing is frozen"))
            continue
        found = measured[cuts[depth - 1].label]
        # As the freezer: it knows how long a depth lasts from policies that say so.
        change = announced_change(policy, TrainState(begin, epochs, depth, cuts))
        lasts = (epochs if change is None else change) - begin
        decision = found.decision(lasts, disk_budget, mode, epochs_before=begin)
        stored = decision.choice == "cache"
        spent = count * (found.cache_seconds(decision.views) if stored else found.recompute_seconds)
        built = found.prepare_seconds + decision.views * found.build_seconds
        stages.append(
            Stage(
                epoch=begin,
                epochs=count,
                cut=found.cut.label,
                choice=decision.choice,
                views=decision.views,
                seconds=spent + (0.0 if mode == "recompute" else built),
                nbytes=found.rung.nbytes(decision.views) if stored else 0,
                reason=decision.reason,
            )
        )
    return tuple(stages)
