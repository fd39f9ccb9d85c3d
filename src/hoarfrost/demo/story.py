"""A comparison of trainings that differ in how they freeze alone, and what each of them cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from ..freezer import Freezer
from ..report import Run, format_bytes, format_count, format_percent, format_seconds
from ..running import Examination, Journal, RunConfig, cosine, fit, make_optimizer, placed, write_end, write_start
from ..settings import METHODS

__all__ = ["HEADER", "Arm", "Outcome", "Story"]

HEADER = (
    "training",
    "epochs",
    "accuracy",
    "augmented",
    "wall",
    "s/epoch by depth",
    "FLOPs",
    "stored",
    "below fp32",
    "build",
)


@dataclass(frozen=True)
class Arm:
    """One of the trainings that are compared, as the arms of a trial are: how many epochs, and how it freezes.

    Args:
        freezer: what its Freezer is told beside what the story says for all arms.
        lr: its peak rate; None: the story's.
    """

    name: str
    epochs: int
    freezer: Mapping[str, Any] = field(default_factory=lambda: {"policy": "none"})
    lr: float | None = None

    def path(self, folder: Path) -> Path:
        """Of its records."""
        return folder / f"{self.name.replace(' ', '-').replace(',', '')}.jsonl"


@dataclass(frozen=True)
class Story:
    """What all arms of a comparison share, so that they differ in how they freeze alone."""

    config: RunConfig
    make_model: Callable[[], nn.Module]
    train_set: Dataset[Any]
    train_transform: Callable[[Any], Any]
    test_transform: Callable[[Any], Any]
    plain: Examination
    augmented: Examination
    warmup: float
    start: Mapping[str, Any]
    curve: Examination | None = None
    """Seen after each epoch; None: only the end is examined."""
    evaluate_every: int = 1
    shortened: bool = False
    """Whether the first arm once more, cut to the time that Hoarfrost took, is a rival too."""
    arms_of: str | None = None
    """The story of `STORIES` that has the same network and data: what it has run of these arms is not run again."""

    def run(
        self,
        arm: Arm,
        folder: Path,
        listener: Callable[[dict[str, Any]], None] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Outcome:
        """Train one arm from the same start as all others."""
        torch.manual_seed(self.config.rendering.seed)
        model = placed(self.make_model(), self.config.rendering)
        config = self.config if arm.lr is None else self.config.but(lr=arm.lr)
        optimizer = make_optimizer(config, model)
        by_method = METHODS.get(arm.freezer.get("method", ""), {})  # goes before what the story says for all arms
        shared = {name: value for name, value in self.config.keywords.items() if name not in by_method}
        keywords = {**shared, "epochs": arm.epochs, **arm.freezer}
        with (
            Freezer(
                model, self.train_set, transform=self.train_transform, optimizer=optimizer, verbose=False, **keywords
            ) as freezer,
            closing(Journal(arm.path(folder), listener=listener)) as journal,
        ):
            write_start(journal.write, freezer, self.start)
            began = time.perf_counter()
            fit(
                freezer,
                optimizer,
                epochs=arm.epochs,
                rate=cosine(self.warmup),
                evaluate=self.curve,
                evaluate_every=self.evaluate_every,
                on_step=on_step,
            )
            write_end(journal.write, freezer, self.plain, self.augmented, began)
        return Outcome(arm, tuple(journal.records))


@dataclass(frozen=True)
class Outcome:
    """What an arm came to, read from its records."""

    arm: Arm
    records: tuple[dict[str, Any], ...]

    @property
    def run(self) -> Run:
        return Run(self.arm.name, list(self.records))

    @property
    def end(self) -> dict[str, Any]:
        return self.records[-1]

    @property
    def seconds(self) -> float:
        """Wall seconds of training, calibration and builds; evaluation is left out, for all arms alike."""
        return float(self.end["seconds"])

    @property
    def accuracy(self) -> float:
        return float(self.end["test_accuracy"])

    @property
    def augmented_accuracy(self) -> float:
        return float(self.end["augmented_accuracy"])

    @property
    def epochs(self) -> list[dict[str, Any]]:
        return [record for record in self.records if record["event"] == "epoch"]

    @property
    def freezes(self) -> list[dict[str, Any]]:
        return [record for record in self.records if record["event"] == "freeze"]

    @property
    def epoch_seconds(self) -> dict[str, float]:
        """Median seconds of an epoch at each depth, by the cut's label ("images" before the first)."""
        by_depth: dict[str, list[float]] = {}
        for record in self.epochs:
            by_depth.setdefault(record["cut"] or "images", []).append(record["seconds"])
        return {cut: statistics.median(seconds) for cut, seconds in by_depth.items()}

    @property
    def flops(self) -> int:
        return sum(int(record["train_flops"]) for record in self.epochs)

    @property
    def stored_bytes(self) -> int:
        """The largest cache that stood at one time."""
        return max((int(record["cache_bytes"]) for record in self.freezes), default=0)

    def seconds_to(self, accuracy: float) -> float | None:
        """Seconds, counted as `seconds` are, until an epoch's end first reached `accuracy`; None if none did."""
        ends = zip(self.epochs, self.run.elapsed_seconds, strict=True)
        return next((spent for record, spent in ends if record.get("test_accuracy", 0.0) >= accuracy), None)

    def row(self) -> list[str]:
        """Cells under HEADER."""
        caches = [record for record in self.freezes if record["cache_bytes"]]
        return [
            self.arm.name,
            str(self.arm.epochs),
            format_percent(self.accuracy),
            format_percent(self.augmented_accuracy),
            format_seconds(self.seconds),
            ", ".join(f"{cut}\N{NO-BREAK SPACE}{seconds:.2f}" for cut, seconds in self.epoch_seconds.items()),
            format_count(self.flops),
            ", ".join(format_bytes(record["cache_bytes"]) for record in caches) or "–",
            ", ".join(f"{record['dense_bytes'] / record['cache_bytes']:.0f}x" for record in caches) or "–",
            format_seconds(sum(record["build_seconds"] for record in caches)) if caches else "–",
        ]
