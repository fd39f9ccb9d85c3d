"""Dependencies run downward: a module imports from lower levels, and within its own package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hoarfrost

ROOT = Path(hoarfrost.__file__).parent

LEVELS = {
    "errors": 0,
    "seeds": 0,
    "cuts": 1,
    "freezing": 2,
    "settling": 2,
    "augment": 1,
    "codecs": 1,
    "watching": 2,
    "policies": 3,
    "data": 1,
    "models": 1,
    "sensitivity": 2,
    "cache": 2,
    "costs": 2,
    "checkpoints": 1,
    "views": 3,
    "samples": 3,
    "loading": 3,
    "room": 1,
    "renditions": 4,
    "resident": 4,
    "choosing": 5,
    "sources": 5,
    "weighing": 3,
    "calibration": 6,
    "onward": 6,
    "storing": 7,
    "feeding": 8,
    "front": 8,
    "timings": 3,
    "trials": 4,
    "workbench": 5,
    "evaluation": 8,
    "freezer": 9,
    "forecast": 4,
    "planning": 10,
    "inspection": 10,
    "tables": 11,
    "examination": 4,
    "runfiles": 2,
    "runconfig": 3,
    "training": 10,
    "integrations": 10,
    "study": 11,
    "run": 11,
    "outlook": 12,
    "console": 11,
    "report": 1,
    "demo": 12,
    "cli": 13,
}

# One room may look into another on its own level only where the plan says so.
SIDEWAYS: set[tuple[str, str]] = set()


def rooms() -> list[str]:
    return sorted(
        {p.stem if p.suffix else p.name for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
        - {"__init__", "__main__", "__pycache__"}
    )


def imports_of(path: Path) -> set[str]:
    """The rooms of hoarfrost that a file imports, absolute or relative."""
    package = ("hoarfrost", *path.relative_to(ROOT).parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        found |= {parts[1] for parts in names if parts[0] == "hoarfrost" and len(parts) > 1}
    return found & set(rooms())


def test_every_room_has_a_level() -> None:
    assert set(rooms()) <= set(LEVELS), "a new module needs a level in LEVELS"


@pytest.mark.parametrize("room", rooms())
def test_imports_run_downward(room: str) -> None:
    files = [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else sorted((ROOT / room).rglob("*.py"))
    for path in files:
        for other in imports_of(path) - {room}:
            allowed = LEVELS[other] < LEVELS[room] or (room, other) in SIDEWAYS
            assert allowed, f"{path.relative_to(ROOT)} (level {LEVELS[room]}) imports {other} (level {LEVELS[other]})"
