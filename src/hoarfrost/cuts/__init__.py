"""Where a model can be divided, and dividing it."""

from .cut import Crossing, Cut, find_cut
from .divide import divide, join
from .find import find_cuts, require_cuts
from .prefix import Prefix
from .suffix import Suffix

__all__ = ["Crossing", "Cut", "Prefix", "Suffix", "divide", "find_cut", "find_cuts", "join", "require_cuts"]
