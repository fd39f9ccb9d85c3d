"""Which sample, in which rendition, in which order, and what the frozen prefix makes of it.

In come a user's data set and transform; out go images in batches, and features chunk by chunk.
"""

from .collating import Collate
from .dataset import Samples
from .derivation import WAYS, Deriver, Way, grid_of
from .device import OnDevice, device_of
from .form import Form, Input
from .frame import Frames
from .identity import Identity, Look, digests_from, digests_nbytes, same_input
from .lengths import Lengths, Rows, padded
from .loader import UserLoader
from .order import Order, batch_bounds, steps_left, steps_of
from .padding import why_padding_counts
from .parts import Part
from .prefix_source import Block, PrefixSource, Together, dense_block
from .renditions import Renditions
from .training_data import EXAMPLES, TrainingData
from .workers import Workers

__all__ = [
    "EXAMPLES",
    "WAYS",
    "Block",
    "Collate",
    "Deriver",
    "Form",
    "Frames",
    "Identity",
    "Input",
    "Lengths",
    "Look",
    "OnDevice",
    "Order",
    "Part",
    "PrefixSource",
    "Renditions",
    "Rows",
    "Samples",
    "Together",
    "TrainingData",
    "UserLoader",
    "Way",
    "Workers",
    "batch_bounds",
    "dense_block",
    "device_of",
    "digests_from",
    "digests_nbytes",
    "grid_of",
    "padded",
    "same_input",
    "steps_left",
    "steps_of",
    "why_padding_counts",
]
