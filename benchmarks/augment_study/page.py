"""The page: a table for each data set and model, and accuracy against bytes as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def page(records: list[dict[str, Any]], plan: dict[str, int], path: Path) -> None:
    raise NotImplementedError
