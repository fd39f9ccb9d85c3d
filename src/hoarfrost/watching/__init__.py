"""Watching a model while it trains: what policies are told of it, and what it costs to know."""

from .observer import PROBE, Observer
from .segments import Segment, segments_of
from .similarity import linear_cka, similarity_loss, svcca

__all__ = [
    "PROBE",
    "Observer",
    "Segment",
    "linear_cka",
    "segments_of",
    "similarity_loss",
    "svcca",
]
