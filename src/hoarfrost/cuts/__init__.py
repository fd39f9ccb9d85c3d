"""Where a model can be divided, and dividing it."""

from .cut import Crossing, Cut, find_cut
from .dividing.between import Between, between
from .dividing.divide import divide, join
from .dividing.prefix import Prefix
from .dividing.suffix import Suffix
from .finding.candidates import candidate_cuts, candidate_depths
from .finding.find import find_cuts, require_cuts

__all__ = [
    "Between",
    "Crossing",
    "Cut",
    "Prefix",
    "Suffix",
    "between",
    "candidate_cuts",
    "candidate_depths",
    "divide",
    "find_cut",
    "find_cuts",
    "join",
    "require_cuts",
]
