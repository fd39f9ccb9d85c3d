"""Dependencies run downward: a wing imports from the wings that its line of the plan names, and by their doors."""

from __future__ import annotations

import ast
import graphlib
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

import hoarfrost

ROOT = Path(hoarfrost.__file__).parent

FLAT = {"errors", "plain_fields", "seeds", "threads", "untrusted"}
"""What every wing may import."""

UNDER_STORING = {
    "settings",
    "samples",
    "freezing",
    "cache",
    "costs",
    "codecs",
    "cuts",
    "augment",
    "provenance",
    "distributed",
}

PLAN: dict[str, set[str]] = {
    "provenance": set(),
    "cuts": set(),
    "augment": {"provenance"},
    "codecs": set(),
    "data": set(),
    "models": set(),
    "report": set(),
    "checkpoints": set(),
    "settings": {"codecs"},
    "cache": {"codecs"},
    "costs": {"cuts"},
    "distributed": set(),
    "samples": {"settings", "augment", "cuts", "codecs", "cache", "provenance", "distributed"},
    "freezing": {"cuts"},
    "watching": {"samples", "freezing", "costs", "cuts", "codecs"},
    "policies": {"watching", "samples", "cuts"},
    "storing": UNDER_STORING,
    "feeding": UNDER_STORING | {"storing", "policies"},
    "freezer": UNDER_STORING - {"provenance", "distributed"} | {"storing", "policies", "feeding", "watching"},
}
"""Each wing with those that it may import; what stands behind the freezer may import all that is in front of it."""

BEHIND = ("integrations", "sweep", "running", "planning", "demo", "cli")
"""The wings behind the freezer, each standing on those before it."""
ROOMS = {
    "cuts": ("sandbox", "tracing", "cut", "finding", "dividing"),
    "augment": ("geometry", "transforms", "pipeline"),
}
"""The rooms inside a large wing, each standing on those before it."""

PAST_THE_DOOR = {
    "codecs.features.array_bytes": "bytes as codecs pack them; no part of what a user meets at codecs",
    "codecs.features.find_non_finite": "the same check that codecs make, for an error that names the sample",
    "codecs.features.way_out": "what an error about a value says to do, wherever it is raised",
    "codecs.outputs.output_of": "which output is compared, when weights are measured as harm is",
    "codecs.outputs.loss_in": "the loss that a model gives itself, in a trial as in harm",
    "codecs.outputs.alike": "whether outputs tell samples apart, before they are judged",
    "codecs.outputs.shows": "whether outputs can be judged at all, before they are",
    "codecs.outputs.loss_of": "the loss that a model gives itself, in a trial as in harm",
    "policies.asking.checked_depth": "an answer is checked by a forecast as it is in a run",
    "policies.policy.announced_change": "what a policy says of itself is read by a forecast as it is in a run",
    "policies.policy.prepared": "a policy of known times is told how many epochs there are, by a forecast too",
    **dict.fromkeys(
        ("running.config.DATA", "running.config.RUN", "running.config.TRAINING"),
        "titles in the command's help, which say nothing without the fields that they stand above",
    ),
}
"""What one wing takes from a file inside another, and why it is not at that door."""

FLOORS = 12


def allowed(wing: str) -> set[str]:
    if wing not in BEHIND:
        return PLAN[wing] | FLAT
    return {*PLAN, *FLAT, *BEHIND[: BEHIND.index(wing)]}


def wings() -> list[str]:
    return sorted(
        {p.stem if p.suffix else p.name for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
        - {"__init__", "__main__", "__pycache__"}
    )


PACKAGES = [wing for wing in wings() if (ROOT / wing).is_dir()]


def files_of(wing: str) -> list[Path]:
    return [ROOT / f"{wing}.py"] if (ROOT / f"{wing}.py").exists() else sorted((ROOT / wing).rglob("*.py"))


@cache
def imports_of(path: Path) -> set[tuple[str, ...]]:
    """The names that a file imports from hoarfrost, as paths of modules with the name behind them.

    A lazy door imports what its `.pyi` says.
    """
    package = ("hoarfrost", *path.relative_to(ROOT).parent.parts)
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(
        ast.parse((path.with_suffix(".pyi") if path.with_suffix(".pyi").exists() else path).read_text())
    ):
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


@cache
def module_of(parts: tuple[str, ...]) -> Path | None:
    """The file of the longest part of a dotted name that is a module."""
    for end in range(len(parts), 0, -1):
        for path in (ROOT.joinpath(*parts[:end]).with_suffix(".py"), ROOT.joinpath(*parts[:end], "__init__.py")):
            if path.exists():
                return path
    return None


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


def test_no_circle_between_files() -> None:
    """Whatever is imported anywhere in a file counts, for types alone and inside functions too."""
    graph = {path: {module_of(parts) for parts in imports_of(path)} - {None} for path in ROOT.rglob("*.py")}
    order = [path for path in graphlib.TopologicalSorter(graph).static_order() if path]
    assert set(order) == set(graph)


def test_the_house_is_not_too_high() -> None:
    arrows = {wing: {parts[0] for path in files_of(wing) for parts in imports_of(path)} - {wing} for wing in wings()}

    @cache
    def floor(wing: str) -> int:
        return 1 + max((floor(other) for other in arrows[wing]), default=0)

    assert max(map(floor, arrows)) <= FLOORS


@pytest.mark.parametrize("wing", wings())
def test_other_wings_are_entered_by_their_doors(wing: str) -> None:
    for path in files_of(wing):
        for parts in imports_of(path):
            if parts[0] in PACKAGES and parts[0] != wing and ".".join(parts) not in PAST_THE_DOOR:
                door = importlib.import_module(f"hoarfrost.{parts[0]}").__all__
                assert parts[1:] in {(name,) for name in door}, f"{path.relative_to(ROOT)} imports {'.'.join(parts)}"


def test_nobody_is_let_past_a_door_in_vain() -> None:
    used = {".".join(parts) for wing in wings() for path in files_of(wing) for parts in imports_of(path)}
    assert set(PAST_THE_DOOR) <= used


@pytest.mark.parametrize("wing", PACKAGES)
def test_a_door_says_what_comes_in_and_what_goes_out(wing: str) -> None:
    door = importlib.import_module(f"hoarfrost.{wing}")
    told = (door.__doc__ or "").strip()
    assert len(told.splitlines()) <= 5
    assert re.search(r"\bIn(:| comes?\b)", told), told
    assert re.search(r"\b[Oo]ut(:| goe?s?\b)", told), told
    # The order of ruff's RUF022, which does not read the lists of lazy doors.
    assert door.__all__ == sorted(door.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
