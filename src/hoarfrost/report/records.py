"""What a run wrote (`metrics.jsonl`), read back and put in order."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..untrusted import parse_json, read_regular
from .record_form import check_record

__all__ = ["Record", "Run", "read_records"]

LARGEST = 256 << 20
"""Bytes of the records of a run."""

Record = dict[str, Any]


def read_records(path: str | Path) -> list[Record]:
    """The records of a `metrics.jsonl`, in order.

    A run that was killed may leave a torn last line: it is left out.

    Raises:
        ArgumentError: the file is missing, or a line other than the last is not a record.
    """
    source = Path(path)
    try:
        # Lines end at newlines alone: JSON may hold what else ends one elsewhere.
        lines = read_regular(source, LARGEST, follow=True).decode("utf-8", errors="replace").split("\n")
    except OSError as error:
        raise ArgumentError(f"the records {source} cannot be read: {error.strerror}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise ArgumentError(f"{source}, line {number} is not JSON: {error}") from error
        try:
            check_record(record)
        except ValueError as error:
            raise ArgumentError(f"{source}, line {number} {error}") from error
        records.append(record)
    return records


@dataclass(frozen=True)
class Run:
    """A run to report on: its name and its records, as `read_records` gives them.

    A resumed run repeats epochs; of each epoch, and of the freeze before it, the last record counts.
    """

    name: str
    records: list[Record] = field(default_factory=list)

    @property
    def start(self) -> Record:
        """The first `start` record, or an empty one."""
        return next(iter(self._of("start")), {})

    @property
    def end(self) -> Record:
        """The last `end` record, or an empty one while the run goes on."""
        return next(reversed(self._of("end")), {})

    @property
    def epochs(self) -> list[Record]:
        """One `epoch` record for each epoch, by number."""
        return self._last("epoch")

    @property
    def freezes(self) -> list[Record]:
        """One `freeze` record for each epoch that began with a freeze, by number."""
        return self._last("freeze")

    @property
    def turns(self) -> list[Record]:
        """Records of decisions and changes within the run, the last of each kind at a place."""
        kinds = ("decision", "midway", "thaw", "changed", "stale")
        latest = {(r["epoch"], r["step"], r["event"]): r for r in self.records if r.get("event") in kinds}
        return [latest[place] for place in sorted(latest)]

    @property
    def heals(self) -> list[Record]:
        """The `heal` records."""
        return self._of("heal")

    @property
    def faults(self) -> list[Record]:
        """What befell a cache: the `fault` records."""
        return self._of("fault")

    @property
    def unreadable(self) -> list[Record]:
        """The `bad_sample` records, one for each sample that could not be read."""
        latest = {record.get("sample"): record for record in self._of("bad_sample")}
        return list(latest.values())

    @property
    def elapsed_seconds(self) -> list[float]:
        """Seconds from the start to the end of each epoch: of training, and of all that freezes took until then.

        Records that do not say the sum tell epochs and builds alone.
        """
        elapsed, total = [], 0.0
        built = {record["epoch"]: number(record, "build_seconds") or 0.0 for record in self.freezes}
        for record in self.epochs:
            total += (number(record, "seconds") or 0.0) + built.get(record["epoch"], 0.0)
            spent = number(record, "spent_seconds")
            elapsed.append(total if spent is None else spent)
        return elapsed

    @property
    def depths(self) -> int:
        """How many depths there are to freeze: the number of cuts, or the deepest that was reached."""
        return max(len(self.start.get("cuts") or ()), *(record.get("depth") or 0 for record in self.epochs), 1)

    def _of(self, event: str) -> list[Record]:
        return [record for record in self.records if record.get("event") == event]

    def _last(self, event: str) -> list[Record]:
        latest = {record["epoch"]: record for record in self._of(event) if number(record, "epoch") is not None}
        return [latest[epoch] for epoch in sorted(latest)]


def number(record: Record, key: str) -> float | None:
    """A finite number of a record, or None where it is missing, null, NaN or infinite."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def stored_channels(freeze: Record) -> set[int]:
    """The channels that further views store exactly: those a record names, all where it names none.

    Empty where there is no further view: nothing is stored, or the base view alone.
    """
    if freeze.get("choice") == "recompute" or (number(freeze, "views") or 2) < 2:
        return set()
    named = freeze.get("stored_channels")
    if isinstance(named, list) and named and isinstance(named[-1], list):
        named = named[-1]
    if isinstance(named, list) and all(isinstance(channel, int) for channel in named):
        return set(named)
    return set(range(len(freeze.get("sensitivity") or [])))


def codec_label(codec: Any) -> str:
    """A codec's record as text: its name, or its configuration on one line (`linear bits=4`)."""
    if isinstance(codec, dict):
        rest = [
            f"{key}=({codec_label(value)})" if isinstance(value, dict) else f"{key}={value}"
            for key, value in codec.items()
            if key != "name"
        ]
        return " ".join([str(codec.get("name", "codec")), *rest])
    return str(codec)
