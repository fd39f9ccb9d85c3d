"""The disk budget: what of a calibration fits, what is left out where not all does, and how it is shared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..cuts import Cut
from ..errors import BudgetError
from ..freezing import Division
from ..settings import OverBudget
from .calibration import Calibration
from .plan import Plan

__all__ = ["Budget"]


@dataclass(frozen=True)
class Budget:
    """Bytes that stored features may take, and what is given up where that is too little.

    Attributes:
        nbytes: None: no limit.
    """

    nbytes: int | None
    over_budget: OverBudget

    def left(self, used: int) -> int | None:
        """Bytes that are not used; None: there is no limit."""
        return None if self.nbytes is None else max(0, self.nbytes - used)

    def beside(self, used: int, plan: Calibration | Plan) -> float:
        """Bytes that would be left beside what is used already and this plan."""
        return math.inf if self.nbytes is None else self.nbytes - used - plan.predicted_bytes

    def plans(self, calibration: Calibration, division: Division) -> tuple[Plan, ...]:
        """What may be stored, from all that is asked for to the least that is allowed."""
        return tuple(Plan.of(plan, calibration, division) for plan in _plans(calibration, self.over_budget))

    def fitting(self, plans: Sequence[Plan], label: str) -> Sequence[Plan]:
        """Those that should fit.

        Raises:
            BudgetError: there is none.
        """
        if self.nbytes is None:
            return plans
        fitting = [plan for plan in plans if plan.predicted_bytes <= self.nbytes]
        if not fitting:
            least = min(plans, key=lambda plan: plan.predicted_bytes)
            views = len(least.spec.stored)
            at = "rung that does no harm" if least.spec.codec == plans[0].spec.codec else "rung of the ladder"
            raise BudgetError(
                f"the disk budget is {self.nbytes:,} bytes, {'one view' if views == 1 else f'{views} views'} of "
                f"{least.spec.samples:,} samples at cut {label!r} needs about {least.predicted_bytes:,} at the "
                f"strongest {at}; a deeper cut or a larger budget would do"
            )
        return fitting

    def left_out(self, plan: Plan, predicted: bool) -> str:
        """What of a plan is less than what was asked for, in words; or ""."""
        if not plan.less:
            return ""
        why = f"to stay within the disk budget of {self.nbytes:,} bytes" if predicted else "for more there was no room"
        return f"{' and '.join(plan.less.values())}, {why}"

    def deeper(self, cut: Cut, calibration: Calibration, later: Sequence[Cut]) -> Cut | None:
        """The first recommended cut of `later` to freeze instead, where `over_budget` asks for that before it is
        content with less, and where features should fit that take as many bytes a value as those at `cut`."""
        if self.nbytes is None or not self.over_budget.deepens:
            return None
        before = _plans(calibration, self.over_budget.before_deepening)
        least = min(plan.predicted_bytes for plan in before)
        if least <= self.nbytes:
            return None
        fits = self.nbytes * cut.bytes_per_sample / least
        return next((other for other in later if other.recommended and other.bytes_per_sample <= fits), None)

    def shares(self, plan: Plan, used: int) -> list[int | None]:
        """What `used` bytes leave, divided between the tensors that are stored as their bytes will be."""
        left = self.left(used)
        if left is None:
            return [None] * len(plan.specs)
        return [left * size // max(1, sum(plan.sizes)) for size in plan.sizes]


def _plans(calibration: Calibration, over_budget: OverBudget) -> list[Calibration]:
    rungs = calibration.stronger
    offers = over_budget.offers(len(calibration.spec.stored), len(rungs))
    return [calibration.at(views, rungs[up]) for views, up in offers]
