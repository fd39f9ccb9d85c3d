"""The same training three ways: for the other examples, which time it and print what came of it.

    everything trains   the loop as it was, torch's DataLoader, no Hoarfrost
    frozen, recomputed  conventional freezing: the front is frozen, and runs in every epoch (mode="recompute")
    frozen, cached      the same with the front's features stored (mode="cache")

All three begin with the same weights. Times are of training, building the cache included: wall seconds, and the
processor's seconds of this process, which other work on the machine disturbs less.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

SEED = 0
"""Of the weights that all three begin with, and of what they draw."""


class Outcome(NamedTuple):
    """What a way of training took, and what the model was worth behind it."""

    seconds: float
    cpu_seconds: float
    figure: float


def three_ways(
    make_model: Callable[[], nn.Module],
    as_it_was: Callable[[nn.Module], Any],
    with_hoarfrost: Callable[[nn.Module, str], Any],
    evaluate: Callable[[nn.Module], float],
    figure: str,
) -> dict[str, Outcome]:
    """Train and evaluate each way, and print a line of each.

    Args:
        with_hoarfrost: trains a model in a mode of the Freezer.
        figure: what `evaluate` gives, in words.
    """
    ways: dict[str, Callable[[nn.Module], Any]] = {
        "everything trains": as_it_was,
        "frozen, recomputed": lambda model: with_hoarfrost(model, "recompute"),
        "frozen, cached": lambda model: with_hoarfrost(model, "cache"),
    }
    outcomes = {}
    for way, train in ways.items():
        torch.manual_seed(SEED)
        model = make_model().train()
        begin, cpu_begin = time.perf_counter(), time.process_time()
        train(model)
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
        with torch.no_grad():
            outcomes[way] = Outcome(seconds, cpu_seconds, evaluate(model.eval()))
        took = f"{seconds:7.1f} s, {cpu_seconds:7.1f} of the processor"
        print(f"{way:20} {took}   {figure} {outcomes[way].figure:.4f}", flush=True)
    return outcomes
