"""Watching a model while it trains.

In come the model, its cuts, its optimizer and the batches that it would train on. Out goes what a policy may ask: an
`Observer` tells of the model (segments, rates, gradients, weights, features), `Measurements` of the training's seconds.
"""

from .activations import Summary
from .measurements import EpochTime, Measurements
from .observer import PROBE, Observer
from .prices import DepthPrice, Prices
from .segments import Segment, segments_of
from .similarity import (
    centred_gram,
    linear_cka,
    principal_directions,
    row_normalised_gram,
    similarity_loss,
    svcca,
)
from .trials import Trial

__all__ = [
    "PROBE",
    "DepthPrice",
    "EpochTime",
    "Measurements",
    "Observer",
    "Prices",
    "Segment",
    "Summary",
    "Trial",
    "centred_gram",
    "linear_cka",
    "principal_directions",
    "row_normalised_gram",
    "segments_of",
    "similarity_loss",
    "svcca",
]
