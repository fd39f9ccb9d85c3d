"""What a measurement has found so far, and the time that is left."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

__all__ = ["Report"]


class Report:
    """What was found so far, in a file that is always whole; and the time that is left."""

    def __init__(self, path: Path, limit: float) -> None:
        self.path, self.began, self.limit = path, time.perf_counter(), limit
        self.found: dict[str, Any] = {"stopped": []}

    @property
    def left(self) -> float:
        return self.limit - (time.perf_counter() - self.began)

    def say(self, text: str) -> None:
        print(f"[{time.perf_counter() - self.began:6.1f} s] {text}", flush=True)

    def stop(self, what: str) -> None:
        self.found["stopped"].append(what)
        self.say(f"stopped: {what}")

    def write(self) -> None:
        self.found["seconds"] = time.perf_counter() - self.began
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(self.found, indent=1))
        unfinished.replace(self.path)
