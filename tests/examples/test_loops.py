"""The examples of loops that people have: each runs on little data, freezes, and changes as many lines as it says."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

LOOPS = Path(__file__).parents[2] / "examples" / "loops"
CHANGED = {"lightning_trainer": 3, "timm_task": 1}
NEEDS = {"lightning_trainer": "lightning", "timm_task": "timm"}


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(CHANGED))
def test_it_trains_and_freezes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(NEEDS[name])
    monkeypatch.syspath_prepend(LOOPS)
    example = importlib.import_module(name)
    _, history = example.main(samples=64, epochs=example.TRAINED + 2)
    sources = [record["source"] for record in history if record["event"] == "epoch"]
    assert sources[: example.TRAINED] == ["images"] * example.TRAINED
    assert set(sources[example.TRAINED :]) <= {"cache", "recompute"}
    assert len(sources) == example.TRAINED + 2


@pytest.mark.long
def test_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(LOOPS)
    example = importlib.import_module("sweep")
    found = example.main(samples=64, epochs=2)
    assert len(found) == len(example.RATES) * len(example.SEEDS)
    assert all(0 <= accuracy <= 1 for accuracy in found.values())


@pytest.mark.parametrize("path", sorted(LOOPS.glob("*.py")), ids=lambda path: path.stem)
def test_so_many_lines_change(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) < 100
    assert sum("  # changed" in line for line in lines) == CHANGED.get(path.stem, 0)
