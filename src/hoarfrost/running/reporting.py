"""The report of runs, from the records in their folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import ArgumentError
from ..report import Chapter, Run, read_records, write_report
from .files import RunFiles

__all__ = ["report_on"]


def report_on(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of one run, or of several side by side, from their metrics.jsonl; the file.

    Args:
        folders: of the runs.
        out: the file; None: report.html in the only folder, or in the working directory for several.

    Raises:
        ArgumentError: a folder holds no records.
    """
    if not folders:
        raise ArgumentError("name the folder of at least one run")
    records = [read_records(RunFiles(folder).metrics) for folder in folders]
    starts = [next((r for r in found if r["event"] == "start"), {}) for found in records]
    if len(folders) == 1:
        names = [str(starts[0].get("model", folders[0].name))]
        title = f"{names[0]} on {starts[0].get('data', 'unknown data')}"
    else:
        names = [folder.name or str(folder) for folder in folders]
        title = f"{len(folders)} runs"
    target = out or (RunFiles(folders[0]).report if len(folders) == 1 else Path("report.html"))
    runs = [Run(*pair) for pair in zip(names, records, strict=True)]
    return write_report(target, title=title, chapters=[Chapter(runs)])
