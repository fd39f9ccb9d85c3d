"""The record of a script, as docs show it: what was found, and on what."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from hoarfrost.running import describe_machine

__all__ = ["write_record"]


def write_record(path: Path, options: argparse.Namespace, **found: Any) -> None:
    """As JSON: what was found, the machine with how busy it has been, and what the script was told."""
    machine = {**describe_machine(), "cores": os.cpu_count(), "load_of_15_minutes": round(os.getloadavg()[2], 2)}
    told = {name: value for name, value in vars(options).items() if not (value is None or isinstance(value, Path))}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "options": told, **found}, indent=1) + "\n")
