"""What holds of every framework's runs in two processes: laws of what its `everything` gives, a rank each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from .runs import assert_same_tensors

Runs = list[dict[str, Any]]


def assert_cached_is_recomputed(ranks: Runs, cached: str, recomputed: str, epochs: int) -> None:
    """To the bit, on each rank; images are shown in the first epoch, and stored features from then on."""
    for rank in ranks:
        assert rank[cached]["losses"] == rank[recomputed]["losses"]
        assert_same_tensors(rank[cached]["weights"], rank[recomputed]["weights"])
        sources = [record["source"] for record in rank[cached]["history"] if record["event"] == "epoch"]
        assert sources == ["images", *["cache"] * (epochs - 1)]


def assert_decided_once(ranks: Runs) -> None:
    """What is frozen, and how its features are had."""
    one, other = (
        [(r["depth"], r["decision"]) for r in rank["cached"]["history"] if r["event"] == "freeze"] for rank in ranks
    )
    assert one == other
    assert one
    assert all("one cache for all 2 ranks" in decision for _, decision in one)


def assert_each_sample_once(
    shown: Iterable[tuple[int, Sequence[int]]], epochs: int, samples: int, begin: int = 0
) -> None:
    """Of batches with the epoch that each is of: those before a checkpoint, and those of whoever goes on with it."""
    by_epoch: dict[int, list[int]] = {}
    for epoch, numbers in shown:
        by_epoch.setdefault(epoch, []).extend(numbers)
    assert sorted(by_epoch) == list(range(begin, epochs))
    for numbers in by_epoch.values():
        assert sorted(numbers) == list(range(samples))


def assert_refused(ranks: Runs, what: str, said: str) -> None:
    for rank in ranks:
        assert rank["refusals"][what].startswith("ArgumentError")
        assert said in rank["refusals"][what]


def without(part: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """But for what has this in its name: statistics that each rank keeps for itself, say."""
    return {name: value for name, value in weights.items() if part not in name}
