"""Dependencies run downward: a wing imports from the wings that its line of the plan names, and from its own files."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hoarfrost

ROOT = Path(hoarfrost.__file__).parent

FLAT = {"errors", "seeds"}
"""What every wing may import."""

PLAN: dict[str, set[str]] = {
    "cuts": set(),
    "augment": set(),
    "codecs": set(),
    "data": set(),
    "models": set(),
    "report": set(),
    "settings": {"codecs"},
    "cache": {"codecs"},
    "costs": {"cuts"},
    "samples": {"settings", "augment", "cuts", "codecs", "cache"},
    "freezing": {"cuts"},
    "watching": {"samples", "freezing", "costs", "cuts", "codecs"},
    "policies": {"watching", "samples", "cuts"},
    "storing": {"settings", "samples", "freezing", "cache", "costs", "codecs", "cuts", "augment"},
    "feeding": {
        "settings",
        "storing",
        "policies",
        "samples",
        "freezing",
        "cache",
        "costs",
        "codecs",
        "cuts",
        "augment",
    },
    "freezer": {
        "settings",
        "feeding",
        "storing",
        "policies",
        "watching",
        "freezing",
        "samples",
        "cache",
        "costs",
        "codecs",
        "cuts",
        "augment",
    },
}
"""Each wing with those that it may import; what stands behind the freezer may import all that is in front of it."""

BEHIND = ("running", "planning", "demo", "cli")
"""The wings behind the freezer, each standing on those before it."""


ROOMS = {
    "cuts": ("sandbox", "tracing", "cut", "finding", "dividing"),
    "augment": ("geometry", "transforms", "pipeline"),
}
"""The rooms inside a large wing, each standing on those before it."""


def allowed(wing: str) -> set[str]:
    if wing not in BEHIND:
        return PLAN[wing] | FLAT
    return {*PLAN, *FLAT, *BEHIND[: BEHIND.index(wing)]}


def wings() -> list[str]:
    return sorted(
        {p.stem if p.suffix else p.name for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
        - {"__init__", "__main__", "__pycache__"}
    )


def files_of(wing: str) -> list[Path]:
    return [ROOT / f"{wing}.py"] if (ROOT / f"{wing}.py").exists() else sorted((ROOT / wing).rglob("*.py"))


def imports_of(path: Path) -> set[tuple[str, ...]]:
    """The names that a file imports from hoarfrost, as paths of modules with the name behind them."""
    package = ("hoarfrost", *path.relative_to(ROOT).parent.parts)
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        found |= {tuple(parts[1:]) for parts in names if parts[0] == "hoarfrost" and len(parts) > 1}
    return found


def test_every_wing_stands_in_the_plan() -> None:
    assert set(wings()) == {*PLAN, *FLAT, *BEHIND}


@pytest.mark.parametrize("wing", sorted({*PLAN, *BEHIND}))
def test_arrows_run_downward(wing: str) -> None:
    for path in files_of(wing):
        for other in {parts[0] for parts in imports_of(path)} & set(wings()) - {wing}:
            assert other in allowed(wing), f"{path.relative_to(ROOT)} imports {other}"


@pytest.mark.parametrize("wing", sorted(ROOMS))
def test_arrows_run_downward_inside_a_wing(wing: str) -> None:
    rooms = ROOMS[wing]
    for path in files_of(wing):
        room = path.relative_to(ROOT / wing).parts[0].removesuffix(".py")
        for other in {parts[1] for parts in imports_of(path) if parts[0] == wing and room != "__init__"}:
            assert other in rooms[: rooms.index(room) + 1], f"{path.relative_to(ROOT)} imports {other}"


@pytest.mark.parametrize("wing", sorted(ROOMS))
def test_other_wings_come_in_by_the_door(wing: str) -> None:
    for path in (path for other in wings() if other != wing for path in files_of(other)):
        for parts in imports_of(path):
            assert parts[0] != wing or not {*parts[1:2]} & {*ROOMS[wing]}, (
                f"{path.relative_to(ROOT)} imports {'.'.join(parts)}"
            )
