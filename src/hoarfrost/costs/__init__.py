"""What a way of going on costs.

In come work to be timed or counted, and prices. Out go seconds, FLOPs, and the choice between reading and recomputing.
"""

from .clock import Clock, seconds_a_chunk, seconds_of
from .decision import Decision, automatic_views, decide, passes_of
from .flops import sum_of, training_flops

__all__ = [
    "Clock",
    "Decision",
    "automatic_views",
    "decide",
    "passes_of",
    "seconds_a_chunk",
    "seconds_of",
    "sum_of",
    "training_flops",
]
