"""Features to bytes and back.

In come features. Out go bytes, those packed for reading again, a `Ladder` of codecs from gentle to strong, and the harm
that each does to a model's outputs.
"""

from .base import Codec, codec_from_config, known_codecs, register
from .bfloat16 import BFloat16
from .bounded import Bounded
from .evaluating import evaluating
from .exact import Exact
from .first_tokens import FirstTokens
from .half import Half
from .harm import RungMeasure, choose, divergence, measure_rungs
from .ladder import Ladder
from .linear import Linear
from .packed import FirstRows, Packed, dequantise
from .shared import Shared
from .task import Classes, Labels, OwnLoss, Task, Values
from .task_choice import harm_of, task_of
from .zfp import ZFP

__all__ = [
    "ZFP",
    "BFloat16",
    "Bounded",
    "Classes",
    "Codec",
    "Exact",
    "FirstRows",
    "FirstTokens",
    "Half",
    "Labels",
    "Ladder",
    "Linear",
    "OwnLoss",
    "Packed",
    "RungMeasure",
    "Shared",
    "Task",
    "Values",
    "choose",
    "codec_from_config",
    "dequantise",
    "divergence",
    "evaluating",
    "harm_of",
    "known_codecs",
    "measure_rungs",
    "register",
    "task_of",
]
