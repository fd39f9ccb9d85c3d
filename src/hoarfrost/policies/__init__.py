"""How deep to freeze, and when; one published criterion a file.

In comes a `TrainState`, out goes the depth: a `Policy`, or a name or mapping that `resolve_policy` makes one of.
"""

from .annealed import Annealed
from .asking import Asking
from .autofreeze import AutoFreeze
from .boosted import Boosted
from .budget import Budget
from .cka import CKA
from .egeria import Egeria
from .freezeout import FreezeOut
from .frozen import AsFrozen
from .geometric import Geometric
from .linear import Linear
from .names import NAMED, resolve_policy
from .never import Never
from .periodic import Periodic
from .policy import Policy
from .schedule import Schedule
from .single_shot import SingleShot, SingleShotThenResume
from .smartfrz import SmartFRZ
from .stages import Stages
from .state import TrainState
from .svcca import SVCCA

__all__ = [
    "CKA",
    "NAMED",
    "SVCCA",
    "Annealed",
    "AsFrozen",
    "Asking",
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
    "Stages",
    "TrainState",
    "resolve_policy",
]
