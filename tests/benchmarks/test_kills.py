"""Trainings that are killed, at operations on their files and at random moments, end as the undisturbed ones do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.scripts import run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "only",
    ["schedule, cache", "built from features, every 2 epochs", "policy autofreeze", "command, built from features"],
)
def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path, only: str) -> None:
    out = tmp_path / "found.json"
    run("faults.py", "--kind", "kill", "--count", "4", "--only", only, "--out", str(out))
    *_, row = json.loads(out.read_text())["kill"]["rows"]
    assert row["kills"] >= 4
    assert row["the same"] == row["runs"], json.loads(out.read_text())["kill"]["trials"]
