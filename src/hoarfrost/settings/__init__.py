"""What users say, as values that check themselves and go through JSON.

In come keywords, options and YAML; out go the settings that every other wing takes. Nothing here imports torch before a
ladder is asked for: the command's help is made from these fields.
"""

from .checks import is_url, parse_bytes
from .chunks import Chunks
from .deciding import check_deciding
from .flat import fields_of, from_flat, group, option, to_flat
from .keywords import Freezing, Reading, Rendering, Settings, Storing
from .methods import METHODS, takes_method, with_method
from .noise import Noise
from .over_budget import OverBudget
from .selection import Selection
from .views import METRICS, Views

__all__ = [
    "METHODS",
    "METRICS",
    "Chunks",
    "Freezing",
    "Noise",
    "OverBudget",
    "Reading",
    "Rendering",
    "Selection",
    "Settings",
    "Storing",
    "Views",
    "check_deciding",
    "fields_of",
    "from_flat",
    "group",
    "is_url",
    "option",
    "parse_bytes",
    "takes_method",
    "to_flat",
    "with_method",
]
