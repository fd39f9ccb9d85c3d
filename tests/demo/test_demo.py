"""The demo as one command, on less data: its stories, a sentence, their tables and one report."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hoarfrost.data import default_transforms, open_data
from hoarfrost.demo import stories
from hoarfrost.demo.story import Arm, Outcome, Story
from hoarfrost.errors import ArgumentError
from hoarfrost.running import Examination
from shared.scripts import BENCHMARKS

honest = stories.from_scratch


def small(*names: str, **changes: Any) -> Callable[[int], tuple[Story, list[Arm]]]:
    """The story from scratch on few images, with some of its arms; the first stands for full training."""

    def story(seed: int) -> tuple[Story, list[Arm]]:
        shared, arms = honest(seed, epochs=4, samples=96)
        data = open_data("embedded")
        plain, augmented = (
            Examination(data.test.first(48), transform, channels_last=True)  # type: ignore[attr-defined]
            for transform in reversed(default_transforms(data))
        )
        shared = replace(shared, plain=plain, augmented=augmented, curve=plain, **changes)
        return shared, [arm for arm in arms if arm.name in names]

    return story


PARTS = {"scratch": "trains a small", "finetuning": "fine-tunes a", "paper": "stores "}
"""How each story begins in the sentence that tells what they came to."""


@pytest.mark.slow
@pytest.mark.parametrize("story", ["all", "scratch", "finetuning"])
def test_the_stories_end_in_a_sentence_tables_and_one_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story: str
) -> None:
    titles = {name: title for name, (title, _) in stories.STORIES.items()}
    scratch = small("full training", "Hoarfrost", "conventional freezing")
    pair = small("full training", "Hoarfrost", shortened=False)
    monkeypatch.setattr(stories, "from_scratch", scratch)
    monkeypatch.setitem(stories.STORIES, "scratch", (titles["scratch"], scratch))
    monkeypatch.setitem(stories.STORIES, "finetuning", (titles["finetuning"], pair))
    console = Console(width=80, record=True)
    found = stories.run_demo(tmp_path, story=story, console=console)
    text, page = " ".join(console.export_text().split()), unescape((tmp_path / "report.html").read_text())
    result = text.partition("What it came to")[2]
    sentence = result.partition(" on the test images. ")[0]
    for name, title in titles.items():
        told = story in ("all", name)
        assert (title in text) == told
        assert (PARTS[name] in sentence) == told
        assert (f'<h2 class="chapter">{title}</h2>' in page) == told
        assert (name in found) == told
    if story == "all":
        assert [outcome.arm.name for outcome in found["scratch"]] == [
            *("full training", "full training, shortened", "Hoarfrost", "conventional freezing")
        ]
        assert found["paper"][1:] == found["scratch"][2:]  # not trained again
        assert len(found["finetuning"]) == 2
    assert f'<p class="lead">Hoarfrost {sentence.partition("Hoarfrost ")[2]} on the test images.</p>' in page
    assert "in all; report" in result
    assert "against full training: " in result
    assert ("against the paper's method: " in result) == (story == "all")


def ended(name: str, seconds: float) -> Outcome:
    """An arm of one epoch."""
    spent = {"cut": None, "seconds": seconds, "train_flops": 7, "test_accuracy": 0.5}
    end = {"event": "end", "seconds": seconds, "test_accuracy": 0.5, "augmented_accuracy": 0.25}
    return Outcome(Arm(name, 1), ({"event": "epoch", "epoch": 0, **spent}, end))


def test_what_the_command_came_to_is_kept_beside_the_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("demo_over_seeds", BENCHMARKS / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    full, ours, paper = ended("full training", 4.0), ended("Hoarfrost", 2.0), ended("the paper's method", 3.0)
    told = {"scratch": [full, ours], "paper": [paper, ours]}
    monkeypatch.setattr(script, "run_demo", lambda folder, **_: told)
    out = tmp_path / "found.json"
    out.write_text(json.dumps({"runs": ["of some seed"]}))
    monkeypatch.setattr(sys, "argv", ["demo.py", "--command", "--out", str(out)])
    script.main()
    record = json.loads(out.read_text())
    assert record["runs"] == ["of some seed"]
    assert record["make_demo"]["threads"] == 1
    scratch, papers = record["make_demo"]["stories"]
    assert (scratch["story"], papers["story"]) == ("scratch", "paper")
    assert [(arm["arm"], arm["seconds"], arm["seconds_to_full"]) for arm in scratch["arms"]] == [
        ("full training", 4.0, 4.0),
        ("Hoarfrost", 2.0, 2.0),
    ]
    assert [arm["arm"] for arm in papers["arms"]] == ["the paper's method"]  # ours was told before


def test_an_unknown_story_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="the stories are scratch, finetuning, paper and all, not 'sleeping'"):
        stories.run_demo(tmp_path, story="sleeping")


def test_the_papers_arm_is_told_what_the_method_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "from_scratch", small("full training", "Hoarfrost", "conventional freezing"))
    story, (arm, *_) = stories.papers_method(0)
    freezes = story.run(arm, tmp_path).freezes
    assert [(freeze["choice"], freeze["settled"]["way"]) for freeze in freezes] == [("cache", "last")] * 2
    assert [freeze["cut"] for freeze in freezes] == ["layer1", "layer2"]
