"""Features to bytes and back, and the ladder from gentle to strong."""

from .base import Codec, Packed, codec_from_config, dequantise, known_codecs, register
from .bfloat16 import BFloat16
from .evaluating import evaluating
from .exact import Exact
from .half import Half
from .harm import RungMeasure, choose, divergence, measure_rungs
from .ladder import Ladder
from .linear import Linear
from .shared import Shared

__all__ = [
    "BFloat16",
    "Codec",
    "Exact",
    "Half",
    "Ladder",
    "Linear",
    "Packed",
    "RungMeasure",
    "Shared",
    "choose",
    "codec_from_config",
    "dequantise",
    "divergence",
    "evaluating",
    "known_codecs",
    "measure_rungs",
    "register",
]
