"""The comparison of policies runs through on a few images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.scripts import run


@pytest.mark.slow
def test_a_smoke_run_leaves_a_line_for_each_policy(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    names = ["none", "autofreeze", "single-shot-then-resume", "schedule 40 %, 60 %"]
    options = ["--smoke", "--out", str(out), *(word for name in names for word in ("--policy", name))]
    printed = run("policies.py", *options)
    found = json.loads(out.read_text())
    runs = [(record["policy"], record["epochs"]) for record in found["records"]]
    assert runs == [("none", 4), ("none", 2), *((name, 4) for name in names[1:])]
    assert all(len(record["depths"]) == record["epochs"] for record in found["records"])
    assert found["records"][3]["depths"][-1] == 0 < max(found["records"][3]["depths"])
    assert found["records"][4]["depths"][:2] == [0, 0] < found["records"][4]["depths"][2:]
    assert set(found["hooks"]) == set(names)
    assert printed.count("\n| ") == 7  # names and rule among them
