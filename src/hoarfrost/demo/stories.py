"""Training from scratch, fine-tuning, the paper's method; each arm from the same start, with the same data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
from .embeddings import Embeddings, logistic_regression, run_on_embeddings
from .story import HEADER, Arm, Outcome, Story

__all__ = ["STORIES", "comparison", "finetuning", "from_scratch", "papers_method", "run_demo", "run_story"]

OURS, PAPERS = "Hoarfrost", "the paper's method"


def from_scratch(
    seed: int = 0, *, epochs: int = 32, samples: int = 1_250, curve: bool = True
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
        shortened=True,
    )
    points = {round(0.325 * epochs): "layer1", round(0.5 * epochs): "layer2"}
    return story, [
        Arm("full training", epochs),
        Arm(OURS, epochs, {"policy": points}),
        Arm("conventional freezing", epochs, {"policy": points, "mode": "recompute"}),
    ]


def papers_method(seed: int = 0, **sizes: Any) -> tuple[Story, list[Arm]]:
    """The network and the freezes of `from_scratch`: as the authors' public code stores features, and as we do.

    At a tenth of their tolerance, which leaves next to nothing of the features of so small a network: so it does about
    the harm that ours does (docs/guide/paper.md).
    """
    story, (_, ours, conventional) = from_scratch(seed, **sizes)
    paper = Arm(PAPERS, ours.epochs, {"policy": ours.freezer["policy"], "method": "paper", "ladder": "zfp:10"})
    return replace(story, shortened=False, arms_of="scratch"), [paper, ours, conventional]


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
        Arm(OURS, longer, {"policy": {0: "blocks.9"}}),
        Arm("linear probe", 5 * epochs, {"policy": {0: "top"}}, lr=0.005),
        Embeddings("embeddings and logistic regression", 1),
    ]


def _for_all_arms(seed: int) -> dict[str, Any]:
    """What all stories tell all their trainings."""
    return {"seed": seed, "device": "cpu", "channels_last": True}


STORIES: dict[str, tuple[str, Callable[..., tuple[Story, list[Arm]]]]] = {
    "scratch": ("Training from scratch", from_scratch),
    "finetuning": ("Fine-tuning", finetuning),
    "paper": ("The paper's method", papers_method),
}


def run_demo(
    out: Path, *, seed: int = 0, story: str = "all", console: Console | None = None
) -> dict[str, list[Outcome]]:
    """Run the stories, say in a sentence what they came to, print a table for each and write `report.html`.

    Returns:
        What the arms of each story came to.

    Raises:
        ArgumentError: an unknown story, or what one needs is not installed.
    """
    if story not in ("all", *STORIES):
        raise ArgumentError(f"the stories are {', '.join(STORIES)} and all, not {story!r}")
    if story in ("all", "finetuning"):
        logistic_regression()
    console = console or Console()
    began = time.perf_counter()
    told: dict[str, list[Outcome]] = {}
    for name, (title, make) in STORIES.items():
        if story in ("all", name):
            told[name] = run_story(title, *make(seed), out / name, console, told)
    sentence = headline(told)
    console.rule("What it came to")
    console.print(sentence, style="bold", highlight=False)
    chapters: list[Chapter] = []
    for name, found in told.items():
        table = comparison(STORIES[name][0], found)
        print_table(console, table)
        chapters.append(Chapter([outcome.run for outcome in found], [table], table.title))
    report = write_report(out / "report.html", title="Hoarfrost: the demo", lead=sentence, chapters=chapters)
    console.print(f"{format_seconds(time.perf_counter() - began)} in all; report {report}", highlight=False)
    return told


def run_story(
    title: str,
    story: Story,
    arms: Sequence[Arm],
    folder: Path,
    console: Console,
    told: Mapping[str, Sequence[Outcome]] | None = None,
) -> list[Outcome]:
    """All arms, one after the other.

    Args:
        told: what the stories before this one came to, from the same seed and sizes.
    """
    outcomes = []
    known = {outcome.arm.name: outcome for outcome in (told or {}).get(story.arms_of or "", ())}
    console.rule(title)
    with RunDisplay(console) as display:
        for arm in arms:
            if arm.name in known:
                outcomes.append(known[arm.name])
                continue
            console.print(f"[bold]{arm.name}[/]")
            if isinstance(arm, Embeddings):
                outcomes.append(run_on_embeddings(story, arm, folder, display.show))
            else:
                outcomes.append(story.run(arm, folder, display.show, display.step))
        if story.shortened:
            full, ours = outcomes[0], outcomes[1]
            fitting = max(1, round(ours.seconds / (full.seconds / full.arm.epochs)))
            rival = replace(full.arm, name=f"{full.arm.name}, shortened", epochs=fitting)
            console.print(f"[bold]{rival.name}[/] to the {format_seconds(ours.seconds)} that Hoarfrost took")
            outcomes.insert(1, story.run(rival, folder, display.show, display.step))
    return outcomes


def headline(told: Mapping[str, Sequence[Outcome]]) -> str:
    """What all stories came to, in one sentence."""
    parts = []
    for name, outcomes in told.items():
        rival, ours = outcomes[0], _named(outcomes, OURS)
        points = f"{100 * (ours.accuracy - rival.accuracy):+.1f} points"
        faster = f"{rival.seconds / ours.seconds:.1f}x as fast as {rival.arm.name}, at {points}"
        fewer = rival.stored_bytes / ours.stored_bytes if ours.stored_bytes else 0.0
        parts.append(
            {
                "scratch": f"trains a small network from scratch {faster}",
                "finetuning": f"fine-tunes a pretrained one {faster}",
                "paper": f"stores {_times(fewer)} bytes {'than' if fewer >= 1 else 'as'} {rival.arm.name}, at {points}",
            }[name]
        )
    return f"Hoarfrost {', and '.join(filter(None, [', '.join(parts[:-1]), parts[-1]]))} on the test images."


def _times(fewer: float) -> str:
    return f"{fewer:.1f}x fewer" if fewer >= 1 else f"{1 / fewer:.1f}x as many" if fewer else "no"


def _named(outcomes: Sequence[Outcome], name: str) -> Outcome:
    return next(outcome for outcome in outcomes if outcome.arm.name == name)


def comparison(title: str, outcomes: Sequence[Outcome]) -> Table:
    """One row an arm, ours set off; the note says what Hoarfrost gained."""
    by_name = {outcome.arm.name: outcome for outcome in outcomes}
    full, ours = outcomes[0], by_name[OURS]
    reached = ours.seconds_to(full.accuracy)
    note = (
        f"Hoarfrost against {full.arm.name}: {full.seconds / ours.seconds:.2f}x faster in all, "
        f"{100 * (ours.accuracy - full.accuracy):+.2f} points on the plain and "
        f"{100 * (ours.augmented_accuracy - full.augmented_accuracy):+.2f} on the augmented test set. "
    )
    if full.stored_bytes and ours.stored_bytes:
        note += f"It stored {_times(full.stored_bytes / ours.stored_bytes)} bytes. "
    elif reached is not None:
        note += (
            f"It reached the accuracy at which {full.arm.name} ended after {full.seconds / reached:.1f}x less time. "
        )
    conventional = by_name.get("conventional freezing")
    if conventional is not None:
        note += f"Against conventional freezing: {conventional.seconds / ours.seconds:.2f}x faster. "
    note += "Wall time is training, calibration and the building of caches; evaluation is left out for all alike."
    rows = [outcome.row() for outcome in outcomes]
    return Table(title, HEADER, rows, emphasis=list(by_name).index(OURS), note=note)
