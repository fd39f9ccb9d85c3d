"""Each benchmark script runs through on a little data and leaves what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_demo_over_seeds(tmp_path: Path) -> None:
    run("demo.py", "--story", "scratch", "--seeds", "2", "--epochs", "4", "--samples", "300", "--out", str(tmp_path))
    table = (tmp_path / "demo.md").read_text()
    assert "| **Hoarfrost** |" in table
    assert "conventional freezing" in table
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_cache_epoch(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    run("cache_epoch.py", "--model", "cifar_resnet", "--repeats", "1", "--samples", "200", "--out", str(out))
    found = json.loads(out.read_text())
    assert [row["cut"] for row in found] == ["layer1", "layer2"]
    assert all(row["ratio_median"] > 0 and row["below_fp32"] > 1 for row in found)


def test_codecs(tmp_path: Path) -> None:
    out, page = tmp_path / "found.json", tmp_path / "page.md"
    run("codecs.py", "--smoke", "--out", str(out), "--page", str(page))
    found = json.loads(out.read_text())["records"]
    assert {record["cut"] for record in found} == {"layer3"}
    assert {"exact", "half", "linear", "shared"} <= {record["codec"]["name"] for record in found}
    assert all(record["below_fp32"] > 1 and record["decode_gb_s"][0] > 0 for record in found)
    assert "| cifar_resnet | `layer3` | 64x7x7 |" in page.read_text()


def test_every_script_has_a_smoke_test() -> None:
    tested = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    missing = [script.name for script in SCRIPTS.glob("*.py") if f'"{script.name}"' not in tested]
    if missing:
        pytest.fail(f"benchmarks without a smoke run: {missing}")
