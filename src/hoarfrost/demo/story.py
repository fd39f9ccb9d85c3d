"""One arm of a comparison: a model, a way of training it, and what it cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from ..freezer import Freezer
from ..report import Run, format_bytes, format_count, format_percent, format_seconds
from ..running.examination import Examination
from ..running.files import Journal
from ..running.loop import cosine, fit

__all__ = ["HEADER", "Arm", "Bench", "Outcome"]

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
    """A way of training: how many epochs, and what the Freezer is told besides the data."""

    name: str
    epochs: int
    freezer: Mapping[str, Any] = field(default_factory=lambda: {"policy": "none"})


@dataclass(frozen=True)
class Bench:
    """What all arms of a story share."""

    make_model: Callable[[], nn.Module]
    train_set: Dataset[Any]
    train_transform: Callable[[Any], Any]
    plain: Examination
    augmented: Examination
    batch_size: int
    lr: float
    weight_decay: float
    warmup: float
    seed: int
    start: Mapping[str, Any]
    curve: Examination | None = None
    """Seen after each epoch; None: only the end is examined."""
    evaluate_every: int = 1
    channels_last: bool = False

    def run(
        self,
        arm: Arm,
        folder: Path,
        listener: Callable[[dict[str, Any]], None] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Outcome:
        """Train one arm from the same start as all others."""
        torch.manual_seed(self.seed)
        model = self.make_model()
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(
            model.parameters(), lr=self.lr, momentum=0.9, nesterov=True, weight_decay=self.weight_decay
        )
        records: list[dict[str, Any]] = []
        journal = Journal(folder / f"{arm.name.replace(' ', '-').replace(',', '')}.jsonl")

        def say(record: dict[str, Any]) -> None:
            records.append(record)
            journal.write(record)
            if listener is not None:
                listener(record)

        with Freezer(
            model,
            self.train_set,
            batch_size=self.batch_size,
            epochs=arm.epochs,
            transform=self.train_transform,
            optimizer=optimizer,
            seed=self.seed,
            channels_last=self.channels_last,
            **arm.freezer,
        ) as freezer:
            say(
                {
                    "event": "start",
                    **self.start,
                    "epochs": arm.epochs,
                    "seed": self.seed,
                    "policy": repr(freezer.policy),
                    "cuts": [cut.label for cut in freezer.cuts],
                    "transform": freezer.describe(),
                }
            )
            freezer.listener = say
            fit(
                freezer,
                optimizer,
                epochs=arm.epochs,
                rate=cosine(self.warmup),
                evaluate=self.curve,
                evaluate_every=self.evaluate_every,
                on_step=on_step,
            )
            plain, augmented = self.plain(model), self.augmented(model)
            say(
                {
                    "event": "end",
                    "seconds": freezer.training_seconds,
                    "test_loss": plain["loss"],
                    "test_accuracy": plain["accuracy"],
                    "augmented_accuracy": augmented["accuracy"],
                }
            )
        journal.close()
        return Outcome(arm, tuple(records))


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
        """Training seconds until an epoch's end first reached `accuracy`; None if none did."""
        spent = 0.0
        pending = {int(record["epoch"]): float(record["build_seconds"]) for record in self.freezes}
        for record in self.epochs:
            spent += float(record["seconds"]) + pending.get(record["epoch"], 0.0)
            if record.get("test_accuracy", 0.0) >= accuracy:
                return spent
        return None

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
