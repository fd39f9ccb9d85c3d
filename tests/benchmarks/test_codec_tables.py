"""What is shown of codecs is what was measured of them."""

from __future__ import annotations

import json
import sys
from typing import Any

import codec_tables
from shared.scripts import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))

from codec_study.page import page


def test_the_page_of_codecs_is_that_of_the_record() -> None:
    root = BENCHMARKS.parent
    record = json.loads((root / "benchmarks/results/codecs.json").read_text())
    assert (root / "docs/codecs-measured.md").read_text() == page(record["told"], record["records"])


def test_what_a_depth_gains_by_a_setting_of_its_own() -> None:
    def measured(cut: str, levels: int, below: float, of: str | None = None) -> dict[str, Any]:
        codec = {"name": "shared", "levels": levels}
        return {
            "model": "m", "cut": cut, "shape": [2, 3], "codec": codec, "of": of, "below_fp32": below, "kl": 1e-3,
            "within": True,
        }  # fmt: skip

    found = [measured("a", 32, 8), measured("b", 32, 10, of="a"), measured("b", 16, 16), measured("b", 64, 5)]
    rows = list(codec_tables.cuts({"records": found}))
    assert [(model, cut, len(measured)) for model, cut, measured in rows] == [("m", "a", 1), ("m", "b", 3)]
    assert codec_tables.fewer(rows[1][2], "our levels") == 1.6
    assert codec_tables.said(codec_tables.as_before(rows[1][2], "our levels")) == "3.20, 1e-03"
    assert codec_tables.fewer(rows[0][2], "our levels") is None
