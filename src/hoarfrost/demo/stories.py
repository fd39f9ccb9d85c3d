"""The two stories: training from scratch, and fine-tuning; each arm from the same start, with the same data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torchvision.transforms import v2

from ..data import default_transforms, open_data
from ..errors import ArgumentError
from ..models import cifar_resnet, efficientnet_lite0
from ..report import Chapter, Table, format_seconds, print_table, write_report
from ..running import Examination, RunConfig, RunDisplay, describe_machine
from ..settings import Views
from .embeddings import Embeddings, logistic_regression, run_on_embeddings
from .story import HEADER, Arm, Outcome, Story

__all__ = ["comparison", "finetuning", "from_scratch", "run_demo", "run_story"]

CLEAN = Views(count=1, base="clean", derived=1.0)


def from_scratch(
    seed: int = 0, *, epochs: int = 40, samples: int = 1_250, curve: bool = True
) -> tuple[Story, list[Arm]]:
    """A CIFAR-style ResNet on the first of the embedded images: the story and its arms, but for the shortened rival."""
    data = open_data("embedded")
    train_transform, test_transform = default_transforms(data)
    train = data.train.first(samples)  # type: ignore[attr-defined]
    plain = Examination(data.test, test_transform, channels_last=True)
    story = Story(
        config=RunConfig.told(batch_size=32, lr=0.05, weight_decay=5e-4, **_for_all_arms(seed)),
        make_model=lambda: cifar_resnet(len(data.classes), data.channels, (32, 48, 64), (1, 1, 1)),
        train_set=train,
        train_transform=train_transform,
        test_transform=test_transform,
        plain=plain,
        augmented=Examination(data.test, train_transform, channels_last=True),
        warmup=0.15,
        start={"model": "cifar_resnet", "data": data.name, "samples": len(train), **describe_machine()},
        curve=plain if curve else None,
        evaluate_every=8,
    )
    points = {round(0.325 * epochs): "layer1", round(0.5 * epochs): "layer2"}
    return story, [
        Arm("full training", epochs),
        Arm("Hoarfrost", epochs, {"policy": points}),
        Arm("conventional freezing", epochs, {"policy": points, "mode": "recompute"}),
        Arm("augmented in feature space only", epochs, {"policy": points, "mode": "cache", "views": CLEAN}),
    ]


def finetuning(
    seed: int = 0, *, epochs: int = 6, samples: int = 2_000, tests: int | None = None, curve: bool = True
) -> tuple[Story, list[Arm]]:
    """EfficientNet-Lite0 with its ImageNet weights on 2,000 images, enlarged to 64 pixels; on all test images."""
    data = open_data("embedded")
    train = data.train.first(samples)  # type: ignore[attr-defined]
    test = data.test if tests is None else data.test.first(tests)  # type: ignore[attr-defined]
    to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([127 / 255], [128 / 255])]
    enlarge = v2.Resize((64, 64), antialias=True)
    train_transform = v2.Compose([enlarge, v2.RandomHorizontalFlip(), v2.RandomCrop(64, padding=8), *to_tensor])
    test_transform = v2.Compose([enlarge, *to_tensor])
    story = Story(
        config=RunConfig.told(batch_size=64, lr=0.02, weight_decay=1e-4, **_for_all_arms(seed)),
        make_model=lambda: efficientnet_lite0(len(data.classes), data.channels),
        train_set=train,
        train_transform=train_transform,
        test_transform=test_transform,
        plain=Examination(test, test_transform, channels_last=True),
        augmented=Examination(test, train_transform, channels_last=True),
        warmup=0.1,
        start={"model": "efficientnet_lite0, ImageNet weights", "data": data.name, "samples": len(train)}
        | describe_machine(),
        curve=Examination(data.test.first(1_000), test_transform, channels_last=True) if curve else None,  # type: ignore[attr-defined]
    )
    longer = round(epochs * 10 / 6)
    return story, [
        Arm("full fine-tuning", epochs, lr=0.01),
        Arm("Hoarfrost", longer, {"policy": {0: "blocks.9"}}),
        Arm("linear probe", 5 * epochs, {"policy": {0: "top"}}, lr=0.005),
        Embeddings("embeddings and logistic regression", 1),
    ]


def _for_all_arms(seed: int) -> dict[str, Any]:
    """What both stories tell all their trainings."""
    return {"seed": seed, "device": "cpu", "channels_last": True}


def run_demo(out: Path, *, seed: int = 0, story: str = "both", console: Console | None = None) -> None:
    """Run the stories, print a table for each and write `report.html`.

    Raises:
        ArgumentError: an unknown story, or what one needs is not installed.
    """
    if story not in ("both", "scratch", "finetuning"):
        raise ArgumentError(f"the stories are scratch, finetuning and both, not {story!r}")
    if story != "scratch":
        logistic_regression()
    console = console or Console()
    began = time.perf_counter()
    chapters: list[Chapter] = []
    for name, title, make in (
        ("scratch", "Training from scratch", from_scratch),
        ("finetuning", "Fine-tuning", finetuning),
    ):
        if story not in ("both", name):
            continue
        found = run_story(title, *make(seed), out / name, console, shortened=name == "scratch")
        table = comparison(title, found)
        print_table(console, table)
        chapters.append(Chapter([outcome.run for outcome in found], [table], title))
    report = write_report(out / "report.html", title="Hoarfrost: the demo", chapters=chapters)
    console.print(f"{format_seconds(time.perf_counter() - began)} in all; report {report}", highlight=False)


def run_story(
    title: str, story: Story, arms: Sequence[Arm], folder: Path, console: Console, *, shortened: bool = False
) -> list[Outcome]:
    """All arms, one after the other; then, if asked, full training cut to the time that Hoarfrost took."""
    outcomes = []
    console.rule(title)
    with RunDisplay(console) as display:
        for arm in arms:
            console.print(f"[bold]{arm.name}[/]")
            if isinstance(arm, Embeddings):
                outcomes.append(run_on_embeddings(story, arm, folder, display.show))
            else:
                outcomes.append(story.run(arm, folder, display.show, display.step))
        if shortened:
            full, ours = outcomes[0], outcomes[1]
            fitting = max(1, round(ours.seconds / (full.seconds / full.arm.epochs)))
            rival = Arm("full training, shortened", fitting)
            console.print(f"[bold]{rival.name}[/] to the {format_seconds(ours.seconds)} that Hoarfrost took")
            outcomes.insert(1, story.run(rival, folder, display.show, display.step))
    return outcomes


def comparison(title: str, outcomes: Sequence[Outcome]) -> Table:
    """One row an arm, ours set off; the note says what Hoarfrost gained."""
    by_name = {outcome.arm.name: outcome for outcome in outcomes}
    full, ours = outcomes[0], by_name["Hoarfrost"]
    reached = ours.seconds_to(full.accuracy)
    note = (
        f"Hoarfrost against {full.arm.name}: {full.seconds / ours.seconds:.2f}x faster in all, "
        f"{100 * (ours.accuracy - full.accuracy):+.2f} points on the plain and "
        f"{100 * (ours.augmented_accuracy - full.augmented_accuracy):+.2f} on the augmented test set. "
    )
    if reached is not None:
        note += (
            f"It reached the accuracy at which {full.arm.name} ended after {full.seconds / reached:.1f}x less time. "
        )
    conventional = by_name.get("conventional freezing")
    if conventional is not None:
        note += f"Against conventional freezing: {conventional.seconds / ours.seconds:.2f}x faster. "
    note += "Wall time is training, calibration and the building of caches; evaluation is left out for all alike."
    rows = [outcome.row() for outcome in outcomes]
    return Table(title, HEADER, rows, emphasis=list(by_name).index("Hoarfrost"), note=note)
