"""What is stored of a cut's features, and at which rung: measured, chosen, built, found again, dropped.

In come a model divided and the data that it is trained on; out go caches, and a record of what was decided.
"""

from .cache_specs import feature_spec, storable
from .calibration import Calibration, calibrate
from .channels import choose_stored
from .directory import cache_directory
from .distances import channel_distance, channel_harm
from .fingerprint import event_of, origin_of, way_of
from .further_view import why_not_derived
from .plan import Decided
from .requirements import offered
from .rungs import pick
from .sensitivity import sensitivity
from .storage import Storage
from .stored_features import Faults, StoredFeatures
from .storer import Held, Storer

__all__ = [
    "Calibration",
    "Decided",
    "Faults",
    "Held",
    "Storage",
    "StoredFeatures",
    "Storer",
    "cache_directory",
    "calibrate",
    "channel_distance",
    "channel_harm",
    "choose_stored",
    "event_of",
    "feature_spec",
    "offered",
    "origin_of",
    "pick",
    "sensitivity",
    "storable",
    "way_of",
    "why_not_derived",
]
