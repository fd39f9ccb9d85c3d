"""The rival that fits a logistic regression on embeddings."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from hoarfrost.demo import stories
from hoarfrost.demo.embeddings import Embeddings, logistic_regression, run_on_embeddings
from hoarfrost.errors import ArgumentError
from hoarfrost.running import RunDisplay


def test_its_layer_answers_as_the_regression_does(tmp_path: Path) -> None:
    """Seen on the training images themselves, in the one rendition that it was fitted on."""
    story, _ = stories.from_scratch(0, epochs=1, samples=96, curve=False)
    models: list[nn.Module] = []

    def examine(model: nn.Module) -> dict[str, float]:
        models.append(model)
        return {"loss": 0.0, "accuracy": 0.5}

    story = replace(story, train_transform=story.test_transform, plain=examine, augmented=examine)  # type: ignore[arg-type]
    console = Console(width=80, record=True)
    with RunDisplay(console) as display:
        done = run_on_embeddings(story, Embeddings("embeddings", 1, classifier="fc"), tmp_path, display.show)
    assert " 1/1 " in console.export_text()
    images, targets = (
        torch.stack(column) if isinstance(column[0], torch.Tensor) else torch.tensor(column)
        for column in zip(*((story.test_transform(x), y) for x, y in story.train_set), strict=True)
    )
    with torch.no_grad():
        right = (models[0](images).argmax(1) == targets).float().mean().item()
    assert done.epochs[0]["accuracy"] == pytest.approx(right)
    assert right > 0.3  # of ten classes: of random features, but fitted to these very images
    assert (done.accuracy, done.augmented_accuracy) == (0.5, 0.5)
    assert done.seconds > 0
    assert done.flops % 96 == 0
    assert len(done.row()) == 10
    assert (tmp_path / "embeddings.jsonl").exists()


def test_what_is_missing_is_named_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ArgumentError, match="pip install 'hoarfrost\\[demo\\]'"):
        logistic_regression()
    with pytest.raises(ArgumentError, match="scikit-learn"):
        stories.run_demo(tmp_path, story="finetuning")
    assert not list(tmp_path.iterdir())
