"""What a run leaves in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from .checkpoints import save_tensors

__all__ = ["Journal", "RunFiles", "save_model"]


@dataclass(frozen=True)
class RunFiles:
    """What a run leaves in its folder."""

    folder: Path

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
    """metrics.jsonl: one record a line, flushed at once."""

    def __init__(self, path: Path, keep: list[dict[str, Any]] | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w")
        for record in keep or []:
            self.write(record)

    def write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, default=float) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def save_model(path: Path, model: nn.Module) -> None:
    """The model's own state_dict under its own names, as safetensors, atomically."""
    save_tensors(path, model.state_dict(), {"format": "pt"})
