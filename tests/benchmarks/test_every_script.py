from __future__ import annotations

from pathlib import Path

import pytest

from shared.scripts import BENCHMARKS


def test_every_script_has_a_smoke_test() -> None:
    tested = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    missing = [script.name for script in BENCHMARKS.glob("*.py") if f'"{script.name}"' not in tested]
    if missing:
        pytest.fail(f"benchmarks without a smoke run: {missing}")
