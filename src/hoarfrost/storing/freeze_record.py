"""What is said of a freeze, for metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..cache import Cache
from ..freezing import Division
from .calibration import Calibration
from .plan import Decided, precision_of

__all__ = ["freeze_record", "measured_record"]


def measured_record(division: Division, calibration: Calibration, *, policy: str, recorded: str) -> dict[str, Any]:
    """What is known once it was measured, whatever is stored in the end.

    Args:
        recorded: when views are recorded, "ahead" or as they are "shown".
    """
    return {
        "event": "freeze",
        "epoch": division.event,
        "depth": division.cut.index + 1,
        "cut": division.cut.label,
        "policy": policy,
        "precision": precision_of(division),
        "settled": None if division.settled is None else division.settled.to_config(),
        "prefix_seconds": calibration.prefix_seconds,
        "read_seconds": calibration.read_seconds,
        "harm": None if calibration.task is None else calibration.task.name,
        "sensitivity": None if calibration.sensitivity is None else calibration.sensitivity.tolist(),
        "record": recorded,
    }


def freeze_record(
    decided: Decided,
    caches: Sequence[Cache],
    *,
    cache_bytes: int,
    decision: str,
    build_seconds: float,
    over_budget: Sequence[str],
) -> dict[str, Any]:
    """The `freeze` record (docs/design/records.md).

    Args:
        decided: as it was done; its first plan is what is stored.
        caches: none where it is recomputed.
    """
    stored = caches[0].spec.view_channels if caches else None
    return {
        **decided.record,
        **decided.plans[0].record,
        "decision": decision,
        "choice": decided.choice,
        "stored_channels": None if not stored or stored[-1] is None else list(stored[-1]),
        "views": len(stored) if stored else 0,
        "build_seconds": build_seconds,
        "cache_bytes": cache_bytes,
        "dense_bytes": sum(cache.dense_nbytes for cache in caches),
        "over_budget": list(over_budget),
        "built_from": decided.built_from,
    }
