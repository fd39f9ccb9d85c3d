"""Features to bytes and back, and the ladder from gentle to strong."""

from hoarfrost.codecs.base import Codec, Packed, codec_from_config, dequantise, known_codecs, register
from hoarfrost.codecs.bfloat16 import BFloat16
from hoarfrost.codecs.exact import Exact
from hoarfrost.codecs.half import Half
from hoarfrost.codecs.harm import RungMeasure, choose, divergence, measure_rungs
from hoarfrost.codecs.ladder import Ladder
from hoarfrost.codecs.linear import Linear
from hoarfrost.codecs.shared import Shared

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
    "known_codecs",
    "measure_rungs",
    "register",
]
