"""The trainings that are broken: each a life that goes on from what an earlier one left in its folder."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from hoarfrost import Freezer, Views
from hoarfrost.data import ImageArray
from hoarfrost.running import RunConfig, train

__all__ = ["SUBJECTS", "Subject", "live", "make_pictures"]

PIXELS, CLASSES, SAMPLES = 12, 3, 96
NORMALISE = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.25])]
RANDOM = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(PIXELS, padding=2), *NORMALISE])
PLAIN = v2.Compose(NORMALISE)


def small(channels: int = 1) -> nn.Module:
    """Convolutions, batch norms and dropout, in front of and behind each cut."""
    layers: list[nn.Module] = []
    widths = [channels, 6, 8, 8, 8]
    for number, (ins, outs) in enumerate(itertools.pairwise(widths)):
        layers += [nn.Conv2d(ins, outs, 3, 2 if number == 2 else 1, 1), nn.BatchNorm2d(outs), nn.ReLU(inplace=True)]
    return nn.Sequential(
        *(nn.Sequential(*layers[n : n + 3]) for n in range(0, len(layers), 3)),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32, CLASSES),
    )


def made(in_channels: int) -> nn.Module:
    """For the command, `--model fault_study.trainings:made`."""
    return small(in_channels)


def _images(samples: int = SAMPLES) -> tuple[Any, Any]:
    drawn = np.random.default_rng(0)
    targets = drawn.integers(0, CLASSES, samples)
    noise = drawn.integers(0, 128, (samples, PIXELS, PIXELS))
    return (noise + 60 * targets[:, None, None] % 128).astype(np.uint8), targets


def make_pictures(folder: Path) -> None:
    """The same images as a folder of files, for the command."""
    for number, (image, target) in enumerate(zip(*_images(SAMPLES + 12), strict=True)):
        place = folder / ("train" if number < SAMPLES else "val") / str(target)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:03}.png")


@dataclass(frozen=True)
class Subject:
    """A training.

    Attributes:
        told: what the `Freezer` or the command is told.
        command: whether `hoarfrost train` runs it; else a loop of the user's own.
        every_epochs, every_steps: from one checkpoint of the own loop to the next.
        timed: whether seconds decide, so that two undisturbed runs may differ.
    """

    name: str
    told: Mapping[str, Any] = field(default_factory=dict)
    command: bool = False
    epochs: int = 5
    every_epochs: int = 1
    every_steps: int | None = None
    timed: bool = False


TWO = {"policy": {1: "0", 3: "2"}}
STORED = {**TWO, "mode": "cache", "ladder": 8}
POLICIES = (
    *("autofreeze:intervals=5", "annealed", "boosted", "cka:threshold=0.5", "egeria:window=2,tolerance=1.0,refresh=2"),
    *("freezeout", "geometric", "linear", "periodic", "single-shot", "single-shot-then-resume"),
    *("smartfrz:threshold=0.1", "svcca:threshold=0.5"),
)
SUBJECTS = (
    Subject("schedule, cache", STORED),
    Subject("schedule, recompute", {**TWO, "mode": "recompute"}),
    Subject("schedule, auto", {**TWO, "mode": "auto", "views": 1, "ladder": "exact", "transform": PLAIN}, timed=True),
    Subject("schedule, ladder auto", {**TWO, "mode": "cache", "ladder": "auto"}),
    Subject("frozen from the start", {**STORED, "policy": {0: "1"}}),
    *(
        Subject(f"policy {name.partition(':')[0]}", {"mode": "cache", "ladder": 8, "policy": name}, epochs=7)
        for name in POLICIES
    ),
    Subject(
        "policy cka, within epochs",
        {"mode": "cache", "ladder": 8, "policy": "cka:threshold=0.5,every_steps=4"},
        every_steps=2,
    ),
    Subject(
        "policy autofreeze, within epochs",
        {"mode": "cache", "ladder": 8, "policy": "autofreeze:every_steps=4"},
        every_steps=1,
    ),
    Subject("policy budget", {"mode": "auto", "policy": "budget:1.5x"}, epochs=7, timed=True),
    Subject("views drawn anew", {**STORED, "views": Views(2, refresh_every=2)}),
    Subject("views drawn anew together", {**STORED, "views": Views(2, refresh_every=2, refresh="together")}),
    Subject("views recorded as shown", {**STORED, "views": Views(2, record="shown")}),
    Subject("residual views", {**STORED, "views": Views(2, residual=True)}),
    Subject("built from features", {**STORED, "policy": {1: "0", 2: "1", 4: "2"}, "build_from": "features"}, epochs=6),
    Subject(
        "built from features, every 2 epochs", {**STORED, "build_from": "features", "tolerance": 1.0}, every_epochs=2
    ),
    Subject(
        "built from features, every 2 steps", {**STORED, "build_from": "features", "tolerance": 1.0}, every_steps=2
    ),
    Subject("settled by averages", {**STORED, "settle": "average"}, every_steps=3),
    Subject("settled as last", {**STORED, "settle": "last"}, every_epochs=2),
    Subject("little room", {**STORED, "disk_budget": 150_000, "over_budget": "views,rung"}),
    Subject("little room, every 2 epochs", {**STORED, "disk_budget": 150_000, "over_budget": "views"}, every_epochs=2),
    Subject("command, cache", STORED, command=True),
    Subject("command, auto", {**TWO, "mode": "auto", "views": 1, "ladder": "exact"}, command=True, timed=True),
    Subject("command, autofreeze", {"policy": "autofreeze:intervals=5", "mode": "cache", "ladder": 8}, command=True),
    Subject("command, built from features", {**STORED, "build_from": "features"}, command=True),
    Subject("command, stored evaluation", {**STORED, "evaluation": 8}, command=True),
)


def live(subject: Subject, folder: Path, pictures: Path) -> dict[str, Any]:
    """Train to the end, from the beginning or from what is in the folder: the records, and a digest of the weights."""
    warnings.simplefilter("ignore")
    return (_command if subject.command else _loop)(subject, folder, pictures)


def _command(subject: Subject, folder: Path, pictures: Path) -> dict[str, Any]:
    told = {name: value for name, value in subject.told.items() if name != "policy"}
    policy = subject.told["policy"]
    told |= {"freeze": policy} if isinstance(policy, Mapping) else {"policy": policy}
    config = RunConfig.told(
        **told,
        model="fault_study.trainings:made",
        data=str(pictures),
        image_size=PIXELS,
        epochs=subject.epochs,
        batch_size=16,
        lr=0.05,
        out=str(folder),
    )
    done = train(config, resume=(folder / "config.yaml").exists())
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {"weights": done.files.model.read_bytes().hex(), "records": [json.loads(line) for line in lines]}


def _loop(subject: Subject, folder: Path, pictures: Path) -> dict[str, Any]:
    state = folder / "state.pt"
    torch.manual_seed(0)
    told = {"transform": RANDOM, **subject.told}
    images, targets = _images()
    data = ImageArray(images, targets, [str(n) for n in range(CLASSES)], told.pop("transform"))
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with Freezer(
        model,
        data,
        batch_size=16,
        epochs=subject.epochs,
        optimizer=optimizer,
        cache_dir=folder / "cache",
        window=2,
        verbose=False,
        **told,
    ) as freezer:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, subject.epochs * 6)
        begun = (0, 0)
        loss = 0.0

        def save(epoch: int, step: int) -> None:
            parts = {"model": model, "freezer": freezer, "optimizer": optimizer, "schedule": schedule}
            saved: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
            place = {"epoch": epoch, "step": step, "loss": loss, "random": torch.get_rng_state()}
            torch.save({**saved, **place}, state.with_suffix(".tmp"))
            state.with_suffix(".tmp").replace(state)

        if state.exists():
            saved = torch.load(state)
            model.load_state_dict(saved["model"])
            freezer.load_state_dict(saved["freezer"])
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            torch.set_rng_state(saved["random"])
            begun, loss = (saved["epoch"], saved["step"]), saved["loss"]
        else:
            freezer.decide()
            save(0, 0)
        for epoch in range(begun[0], subject.epochs):
            model.train()
            start = begun[1] if epoch == begun[0] else 0
            for step, (inputs, labels) in enumerate(freezer.batches(epoch, start), start + 1):
                answer = F.cross_entropy(freezer(inputs), labels)
                optimizer.zero_grad()
                answer.backward()
                optimizer.step()
                schedule.step()
                loss = answer.item()
                if subject.every_steps and step % subject.every_steps == 0:
                    save(epoch, step)
            freezer.end_epoch({"loss": loss, "accuracy": 0.5})
            if subject.every_steps is None and (epoch + 1) % subject.every_epochs == 0:
                save(epoch + 1, 0)
        weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
        return {"weights": weights.hex(), "records": json.loads(json.dumps(freezer.history))}
