"""The demo as one command, on less data: both stories, their tables and one report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from hoarfrost.data import default_transforms, open_data
from hoarfrost.demo import stories
from hoarfrost.demo.story import Arm, Story
from hoarfrost.errors import ArgumentError
from hoarfrost.running import Examination

honest = stories.from_scratch


def small(*names: str) -> Callable[[int], tuple[Story, list[Arm]]]:
    """The story from scratch on few images, with some of its arms; the first stands for full training."""

    def story(seed: int) -> tuple[Story, list[Arm]]:
        shared, arms = honest(seed, epochs=4, samples=96)
        data = open_data("embedded")
        plain, augmented = (
            Examination(data.test.first(48), transform, channels_last=True)  # type: ignore[attr-defined]
            for transform in reversed(default_transforms(data))
        )
        shared = replace(shared, plain=plain, augmented=augmented, curve=plain)
        return shared, [arm for arm in arms if arm.name in names]

    return story


@pytest.mark.parametrize("story", [pytest.param("both", marks=pytest.mark.slow), "scratch", "finetuning"])
def test_the_stories_end_in_tables_and_one_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story: str) -> None:
    monkeypatch.setattr(stories, "from_scratch", small("full training", "Hoarfrost", "conventional freezing"))
    monkeypatch.setattr(stories, "finetuning", small("full training", "Hoarfrost"))
    console = Console(width=80, record=True)
    stories.run_demo(tmp_path, story=story, console=console)
    text, page = console.export_text(), (tmp_path / "report.html").read_text()
    for title, name in (("Training from scratch", "scratch"), ("Fine-tuning", "finetuning")):
        told = story in ("both", name)
        assert (title in text) == told
        assert (tmp_path / name / "Hoarfrost.jsonl").exists() == told
        assert (f'<h2 class="chapter">{title}</h2>' in page) == told
    assert "in all; report" in text
    assert "against full training: " in text


def test_an_unknown_story_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="the stories are scratch, finetuning and both, not 'sleeping'"):
        stories.run_demo(tmp_path, story="sleeping")
