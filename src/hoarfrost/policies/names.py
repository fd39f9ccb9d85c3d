"""The names under which policies are typed."""

from __future__ import annotations

from collections.abc import Callable

from .annealed import Annealed
from .autofreeze import AutoFreeze
from .base import Policy
from .boosted import Boosted
from .budget import Budget
from .cka import CKA
from .egeria import Egeria
from .freezeout import FreezeOut
from .geometric import Geometric
from .linear import Linear
from .never import Never
from .periodic import Periodic
from .schedule import Schedule
from .single_shot import SingleShot, SingleShotThenResume
from .smartfrz import SmartFRZ
from .svcca import SVCCA

__all__ = ["NAMED"]

NAMED: dict[str, Callable[[], Policy]] = {
    "annealed": Annealed,
    "autofreeze": AutoFreeze,
    "boosted": Boosted,
    "budget": Budget,
    "cka": CKA,
    "egeria": Egeria,
    "freezeout": FreezeOut,
    "geometric": Geometric,
    "linear": Linear,
    "none": Never,
    "periodic": Periodic,
    "schedule": Schedule,
    "single-shot": SingleShot,
    "single-shot-then-resume": SingleShotThenResume,
    "smartfrz": SmartFRZ,
    "svcca": SVCCA,
}
"""Each with its published defaults."""
