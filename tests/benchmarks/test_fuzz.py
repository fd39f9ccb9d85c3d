"""The readers of files from elsewhere on contents that are made up: a short form of benchmarks/fuzz.py."""

from __future__ import annotations

import pytest

from shared.scripts import run

pytestmark = pytest.mark.slow

SLOW = ("state", "state, frozen", "records")
QUICK = ("manifest", "journal", "journal of lengths", "record, exact", "record, linear", "record, shared", "checkpoint")


def fuzzed(*options: str) -> list[tuple[int, int]]:
    """Contents that were taken and that were refused, of each reader; none ended otherwise, or the script fails."""
    rows = run("fuzz.py", *options).splitlines()[2:]
    cells = [[cell.strip().replace(",", "") for cell in row.split("|")[1:-1]] for row in rows]
    assert all(row[-1] == "0" for row in cells)
    return [(int(row[4]), int(row[5])) for row in cells]


def test_no_reader_of_a_cache_is_broken() -> None:
    found = fuzzed("--runs", "150", "--seconds", "60", *(part for name in QUICK for part in ("--reader", name)))
    assert all(taken + refused == 150 and taken > 5 for taken, refused in found)


def test_no_reader_of_a_run_is_broken() -> None:
    found = fuzzed("--runs", "25", "--seconds", "120", *(part for name in SLOW for part in ("--reader", name)))
    assert all(taken and refused for taken, refused in found)


def test_no_configuration_breaks_its_reader() -> None:
    ((taken, refused),) = fuzzed("--runs", "400", "--seconds", "60", "--reader", "configuration", "--seed", "1")
    assert taken > 50
    assert refused > 50
