"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoarfrost.report import format_bytes, format_count, format_percent, format_seconds


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (950, "950 B"),
        (999.6, "1.00 kB"),
        (1000, "1.00 kB"),
        (4_370_000, "4.37 MB"),
        (12e9, "12.0 GB"),
        (9.999e6, "10.0 MB"),
        (-2e6, "-2.00 MB"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
    ],
)
def test_bytes(count: float | None, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0000123, "0.012 ms"),
        (0.042, "42 ms"),
        (0.99999, "1.00 s"),
        (3.214, "3.21 s"),
        (42.04, "42.0 s"),
        (59.97, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.6, "1 h 00 min"),
        (3780, "1 h 03 min"),
        (-65, "-1 min 05 s"),
        (None, "–"),
        (math.inf, "∞"),
    ],
)
def test_seconds(seconds: float | None, text: str) -> None:
    assert format_seconds(seconds) == text


def test_counts_and_shares() -> None:
    assert format_count(3.1e13) == "31.0 T"
    assert format_count(12) == "12"
    assert format_percent(0.88754) == "88.8 %"
    assert format_percent(0.88754, 2) == "88.75 %"
    assert format_percent(None) == "–"


UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}


@given(st.integers(0, 10**17))
def test_bytes_read_back_within_half_a_percent(count: int) -> None:
    digits, unit = format_bytes(count).split()
    assert float(digits) * UNITS[unit] == pytest.approx(count, rel=0.0051, abs=0.5)
