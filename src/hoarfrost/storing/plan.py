"""What was decided behind a freeze, in plain values: a checkpoint keeps it, and the same is built from it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..cache import CacheSpec
from ..freezing import Division
from ..samples import Way
from .calibration import Calibration
from .fingerprint import Origin

__all__ = ["Decided", "Plan"]


@dataclass(frozen=True)
class Plan:
    """One way to store the features of a division.

    Attributes:
        specs: of each tensor that crosses, at each call of the model.
        sizes: bytes of one view of each, as predicted from a sample.
        predicted_bytes: of all views of all.
        rung: its place in the ladder; None where it is recomputed as asked.
        less: what of it is less than was asked for, in words, by the `OverBudget.ways`.
        record: what the `freeze` record says of it.
    """

    specs: tuple[CacheSpec, ...]
    sizes: tuple[int, ...]
    predicted_bytes: int
    rung: int | None
    less: Mapping[str, str]
    record: Mapping[str, Any]

    @classmethod
    def of(cls, calibration: Calibration, asked: Calibration, division: Division) -> Plan:
        """A calibration with so many views at such a rung; `asked` has all that was asked for."""
        others = [round(other.bytes_per_sample * calibration.spec.samples) for other in calibration.beside]
        sizes = [round(calibration.view_bytes / sum(calibration.loads)) - sum(others), *others]
        return cls(
            specs=calibration.specs,
            sizes=tuple(int(size * load) for load in calibration.loads for size in sizes),
            predicted_bytes=calibration.predicted_bytes,
            rung=None if calibration.rung is None else calibration.rung.index,
            less=_less(calibration, asked),
            record=_record(calibration, division),
        )

    @property
    def spec(self) -> CacheSpec:
        """Of the first tensor."""
        return self.specs[0]

    def to_config(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "specs": [spec.to_config() for spec in self.specs],
            "sizes": list(self.sizes),
            "predicted_bytes": self.predicted_bytes,
            "rung": self.rung,
            "less": dict(self.less),
            "record": dict(self.record),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Plan:
        """The inverse of `to_config`."""
        specs = tuple(CacheSpec.from_config(spec) for spec in config["specs"])
        return cls(**{**config, "specs": specs, "sizes": tuple(config["sizes"])})


@dataclass(frozen=True)
class Decided:
    """How the features of a division are had from now on.

    Attributes:
        cut, event, precision: of the division.
        choice: "cache" or "recompute".
        reason: of the choice, one line.
        judged: how harm was measured, where that is to be said, and what the front froze as; or "".
        plans: what may be stored, the most first; the one that was stored, once it is.
        way: how further views are derived.
        origin: whose features they are built from; None: from images.
        built_from: what the `freeze` record says of that.
        instead: that it was frozen further than was asked for, to stay within the disk budget; or "".
        record: what the `freeze` record says of all plans.
        done: whether it has been stored and said.
    """

    cut: str
    event: int
    precision: str | None
    choice: str
    reason: str
    judged: str
    plans: tuple[Plan, ...]
    way: Way
    origin: Origin | None
    built_from: Mapping[str, Any] | None
    instead: str
    record: Mapping[str, Any]
    done: bool = False

    def fits(self, division: Division) -> bool:
        """Whether it was decided for this division."""
        mine = division.cut.label, division.event, precision_of(division)
        return (self.cut, self.event, self.precision) == mine

    def to_config(self) -> dict[str, Any]:
        """As JSON takes it."""
        plain = {name: value for name, value in vars(self).items() if name not in ("plans", "way", "origin")}
        return {
            **plain,
            "plans": [plan.to_config() for plan in self.plans],
            "way": asdict(self.way),
            "origin": None if self.origin is None else asdict(self.origin),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Decided:
        """The inverse of `to_config`."""
        plans = tuple(Plan.from_config(plan) for plan in config["plans"])
        origin = None if config["origin"] is None else Origin(**config["origin"])
        return cls(**{**config, "plans": plans, "way": Way(**config["way"]), "origin": origin})


def precision_of(division: Division) -> str | None:
    """As records name it."""
    return None if division.precision is None else division.precision.plain()


def _less(plan: Calibration, asked: Calibration) -> dict[str, str]:
    views, wanted = len(plan.spec.stored), len(asked.spec.stored)
    told = {}
    if views < wanted:
        told["views"] = f"{views} of {wanted} views"
    if plan.rung is not None and asked.rung is not None and plan.rung is not asked.rung:
        told["rung"] = (
            f"{plan.rung.codec} in place of {asked.rung.codec}, with a harm of {plan.rung.harm:.2g} "
            f"in place of {asked.rung.harm:.2g}"
        )
    return told


def _record(calibration: Calibration, division: Division) -> dict[str, Any]:
    return {
        "rungs": [
            {
                "codec": str(rung.codec),
                "kl": rung.harm,
                "bytes_per_sample": rung.bytes_per_sample,
                "chosen": rung is calibration.rung,
            }
            for rung in calibration.rungs
        ],
        "further": {
            "codec": str(calibration.further.stored.codec or calibration.codec),
            "residual": calibration.further.stored.gains is not None,
            "kl": calibration.further.harm,
            "bytes_per_sample": calibration.further.bytes_per_sample,
            "why": calibration.further.why,
        },
        "predicted_bytes": calibration.predicted_bytes,
        "target_bytes": calibration.target_bytes,
        "journal_bytes": calibration.journal_bytes,
        "beside": [
            {
                "tensor": str(crossing.source),
                "codec": str(other.spec.codec),
                "kl": None if other.rung is None else other.rung.harm,
                "bytes_per_sample": other.bytes_per_sample,
            }
            for crossing, other in zip(division.cut.rows[1:], calibration.beside, strict=True)
        ],
    }
