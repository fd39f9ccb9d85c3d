"""What a run leaves in its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import ArgumentError
from ..report import Chapter, Run, read_records, write_report
from .checkpoints import save_tensors

__all__ = ["Journal", "RunFiles", "report_on", "save_model"]


@dataclass(frozen=True)
class RunFiles:
    """What a run leaves in its folder."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def model(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"


class Journal:
    """metrics.jsonl: one record a line, flushed at once.

    A run that goes on adds to what an earlier process wrote; a line that this one left torn is dropped.
    """

    def __init__(self, path: Path, *, goes_on: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.read_bytes() if goes_on and path.exists() else b""
        whole = written.rfind(b"\n") + 1
        self._file = path.open("a" if goes_on else "w")
        self._file.truncate(whole)

    def write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, default=float) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def save_model(path: Path, model: nn.Module) -> None:
    """The model's own state_dict under its own names, as safetensors, atomically."""
    save_tensors(path, model.state_dict(), {"format": "pt"})


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
