"""What is said of a freeze, for metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..cache import Cache
from ..freezing import Division
from .calibration import Calibration
from .from_features import FromFeatures

__all__ = ["freeze_record"]


def freeze_record(
    division: Division,
    calibration: Calibration,
    caches: Sequence[Cache],
    *,
    cache_bytes: int,
    policy: str,
    choice: str,
    decision: str,
    recorded: str,
    build_seconds: float,
    over_budget: Sequence[str],
    built_from: FromFeatures | None,
) -> dict[str, Any]:
    """The `freeze` record (docs/design/records.md).

    Args:
        caches: none where it is recomputed.
        recorded: when views are recorded, "ahead" or as they are "shown".
    """
    stored = caches[0].spec.view_channels if caches else None
    return {
        "event": "freeze",
        "epoch": division.event,
        "depth": division.cut.index + 1,
        "cut": division.cut.label,
        "policy": policy,
        "decision": decision,
        "choice": choice,
        "precision": None if division.precision is None else division.precision.plain(),
        "prefix_seconds": calibration.prefix_seconds,
        "read_seconds": calibration.read_seconds,
        "harm": None if calibration.task is None else calibration.task.name,
        "rungs": [
            {
                "codec": str(rung.codec),
                "kl": rung.harm,
                "bytes_per_sample": rung.bytes_per_sample,
                "chosen": rung is calibration.rung,
            }
            for rung in calibration.rungs
        ],
        "sensitivity": None if calibration.sensitivity is None else calibration.sensitivity.tolist(),
        "stored_channels": None if not stored or stored[-1] is None else list(stored[-1]),
        "further": {
            "codec": str(calibration.further.stored.codec or calibration.codec),
            "residual": calibration.further.stored.gains is not None,
            "kl": calibration.further.harm,
            "bytes_per_sample": calibration.further.bytes_per_sample,
        },
        "views": len(stored) if stored else 0,
        "record": recorded,
        "predicted_bytes": calibration.predicted_bytes,
        "build_seconds": build_seconds,
        "beside": [
            {
                "tensor": str(crossing.source),
                "codec": str(other.spec.codec),
                "kl": None if other.rung is None else other.rung.harm,
                "bytes_per_sample": other.bytes_per_sample,
            }
            for crossing, other in zip(division.cut.rows[1:], calibration.beside, strict=True)
        ],
        "cache_bytes": cache_bytes,
        "dense_bytes": sum(cache.dense_nbytes for cache in caches),
        "over_budget": list(over_budget),
        "built_from": None if built_from is None else built_from.to_record(),
    }
