from . import augment as augment
from . import cache as cache
from . import codecs as codecs
from . import cuts as cuts
from . import data as data
from . import errors as errors
from . import models as models
from . import policies as policies
from .augment import HorizontalFlip, PaddedCrop, Pipeline
from .cache import Cache
from .codecs import BFloat16, Codec, Exact, Half, Ladder, Linear, Shared
from .cuts import Cut, divide, find_cut, find_cuts, join
from .errors import HoarfrostError
from .freezer import Freezer
from .freezing.surgery import freeze, thaw
from .planning.forecast import Plan
from .planning.plan import plan
from .planning.sensitivity import CutSensitivity, examine_sensitivity
from .policies import Policy, Schedule, TrainState
from .settings import Chunks, Noise, Selection, Views
from .storing.sensitivity import sensitivity
from .sweep import Sweep

__all__ = [
    "BFloat16",
    "Cache",
    "Chunks",
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
    "Noise",
    "PaddedCrop",
    "Pipeline",
    "Plan",
    "Policy",
    "Schedule",
    "Selection",
    "Shared",
    "Sweep",
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
