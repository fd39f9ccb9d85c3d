"""Freezing the front of a model, and thawing it.

In come a model, its cuts and its optimizer; out goes the model divided, its front inert, and all of it back.
"""

from .division import Division
from .front import Front
from .held_back import SIGNALS, held_back
from .movement import Movement, sums_of_bits
from .precision import TrainingPrecision
from .reduction import reduced_by, undistributed
from .statistics import estimate_statistics
from .surgery import Frozen, HasParamGroups, freeze, thaw

__all__ = [
    "SIGNALS",
    "Division",
    "Front",
    "Frozen",
    "HasParamGroups",
    "Movement",
    "TrainingPrecision",
    "estimate_statistics",
    "freeze",
    "held_back",
    "reduced_by",
    "sums_of_bits",
    "thaw",
    "undistributed",
]
