"""Where a model can be divided, and dividing it."""

from .between import Between, between
from .cut import Crossing, Cut, find_cut
from .divide import divide, join
from .find import find_cuts, require_cuts
from .prefix import Prefix
from .suffix import Suffix

__all__ = [
    "Between",
    "Crossing",
    "Cut",
    "Prefix",
    "Suffix",
    "between",
    "divide",
    "find_cut",
    "find_cuts",
    "join",
    "require_cuts",
]
