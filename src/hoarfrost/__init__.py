"""Hoarfrost: train on stored features instead of frozen layers."""

from .augment import HorizontalFlip, PaddedCrop, Pipeline
from .cache import Cache
from .codecs import BFloat16, Codec, Exact, Half, Ladder, Linear, Shared
from .cuts import Cut, divide, find_cut, find_cuts, join
from .errors import HoarfrostError
from .forecast import Plan
from .freezer import Freezer
from .freezing import freeze, thaw
from .inspection import CutSensitivity, examine_sensitivity
from .planning import plan
from .policies import Policy, Schedule, TrainState
from .sensitivity import Selection, sensitivity
from .views import Views

__all__ = [
    "BFloat16",
    "Cache",
    "Codec",
    "Cut",
    "CutSensitivity",
    "Exact",
    "Freezer",
    "Half",
    "HoarfrostError",
    "HorizontalFlip",
    "Ladder",
    "Linear",
    "PaddedCrop",
    "Pipeline",
    "Plan",
    "Policy",
    "Schedule",
    "Selection",
    "Shared",
    "TrainState",
    "Views",
    "divide",
    "examine_sensitivity",
    "find_cut",
    "find_cuts",
    "freeze",
    "join",
    "plan",
    "sensitivity",
    "thaw",
]
