"""What the records of all models come to, group by group."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from typing import Any

__all__ = ["ENOUGH", "SEVERAL", "UNCOUNTED", "exact", "frozen", "row", "table", "told", "tried"]

Record = dict[str, Any]

ENOUGH = 3
"""Cuts that every model is meant to have."""
SEVERAL = 4
"""Tensors that may cross, tried where too few cuts are crossed by one."""
UNCOUNTED = ("not built", "own forward fails", "too large")

HEADER = (
    "group",
    "models",
    "traced",
    f"≥ {ENOUGH} cuts",
    f"fewer, provably ({SEVERAL} tensors: ≥ {ENOUGH})",
    "cuts found",
    "cuts tried",
    "cuts frozen",
    "refused later",
    "models exact in eval",
    "models exact in train",
    "other bits without gradients",
    "median seconds to find",
)


def table(records: Sequence[Record]) -> str:
    """One line a group, as Markdown."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record["group"], []).append(record)
    rows = [*(_counted(group, members) for group, members in groups.items()), _counted("**all**", records)]
    return "\n".join([row(HEADER), "|" + "---|" * len(HEADER), *map(row, rows)])


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def tried(record: Record) -> int:
    return int(record["tested"] + record.get("tested_of_several", 0))


def frozen(record: Record) -> int:
    return int(record.get("tested_frozen", 0) + record.get("tested_of_several_frozen", 0))


def exact(record: Record, mode: str) -> bool:
    kinds = [kind for kind in ("tested", "tested_of_several") if kind in record]
    left_alone = all(failure["check"] != "find" for failure in record["failures"])
    return left_alone and all(record[f"{kind}_exact_in_{mode}"] == record[kind] for kind in kinds)


def told(records: Sequence[Record]) -> list[float]:
    """The numbers in what went wrong: differences, limits."""
    texts = json.dumps([[record["failures"], record.get("reason")] for record in records])
    return [float(found) for found in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", texts)]


def _counted(group: str, records: Sequence[Record]) -> list[str]:
    able = [r for r in records if r["status"] not in UNCOUNTED]
    done = [r for r in able if r["status"] == "done"]
    few = [r for r in done if r["cuts"] < ENOUGH]
    provable = [r for r in few if r["few"]["structural"]]
    rescued = sum(r["cuts_of_several"] >= ENOUGH for r in provable)
    cut = [r for r in done if tried(r)]
    seconds = [r["find_seconds"] for r in done]
    return [
        group,
        str(len(able)),
        str(len(done)),
        str(len(done) - len(few)),
        f"{len(provable)} ({rescued})",
        str(sum(max(r["cuts"], r.get("cuts_of_several", 0)) for r in done)),
        str(sum(map(tried, done))),
        str(sum(map(frozen, done))),
        str(sum(failure["check"] == "freeze" for r in done for failure in r["failures"])),
        f"{sum(exact(r, 'eval') for r in cut)} of {len(cut)}",
        f"{sum(exact(r, 'train') for r in cut)} of {len(cut)}",
        str(sum(any(failure["check"] == "rounding" for failure in r["failures"]) for r in cut)),
        f"{statistics.median(seconds):.2f}" if seconds else "–",
    ]
