"""Policies: how deep to freeze, and when. One published criterion a file."""

from .annealed import Annealed
from .autofreeze import AutoFreeze
from .boosted import Boosted
from .budget import Budget
from .cka import CKA
from .egeria import Egeria
from .freezeout import FreezeOut
from .geometric import Geometric
from .linear import Linear
from .names import NAMED, resolve_policy
from .never import Never
from .periodic import Periodic
from .policy import Policy
from .schedule import Schedule
from .single_shot import SingleShot, SingleShotThenResume
from .smartfrz import SmartFRZ
from .state import TrainState
from .svcca import SVCCA

__all__ = [
    "CKA",
    "NAMED",
    "SVCCA",
    "Annealed",
    "AutoFreeze",
    "Boosted",
    "Budget",
    "Egeria",
    "FreezeOut",
    "Geometric",
    "Linear",
    "Never",
    "Periodic",
    "Policy",
    "Schedule",
    "SingleShot",
    "SingleShotThenResume",
    "SmartFRZ",
    "TrainState",
    "resolve_policy",
]
