"""A record as the table that docs show of it, for the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import tables

__all__ = ["shown"]


def shown(name: str, path: Path) -> str:
    """The table of that name in `scripts/tables.py`, of another record than docs show."""
    return tables.TABLES[name][1](json.loads(path.read_text()))
