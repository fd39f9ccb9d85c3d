"""One training run from a description: data, model, loop, and the files it leaves."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torchvision

from ..data import Data, default_transforms, few, open_data
from ..freezer import Freezer
from ..models import resolve_model
from .config import RunConfig
from .examination import Examination, scores
from .files import Journal, RunFiles, report_on, save_model
from .loop import fit, interruptible

__all__ = ["Outcome", "describe_machine", "train"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its files, whether all epochs are trained, and whether they were so before."""

    files: RunFiles
    finished: bool
    before: bool = False


def train(
    config: RunConfig,
    *,
    resume: bool = False,
    listener: Callable[[dict[str, Any]], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> Outcome:
    """Train as described and leave model.safetensors, metrics.jsonl and report.html in `config.out`.

    Args:
        resume: go on from the checkpoint there; a run that is finished is left as it is.
        listener: called with each record.
        on_step: as in `fit`.
        on_stop: called when Ctrl-C was heard, in its signal handler.

    Returns:
        How it ended; a run that is not finished was interrupted and left a checkpoint to resume from.
    """
    torch.manual_seed(config.seed)
    files = RunFiles(config.folder(resume))
    if resume and files.model.exists():
        return Outcome(files, finished=True, before=True)
    data = open_data(config.data, config.seed, image_size=config.image_size)
    train_set = data.train if config.samples is None else few(data, config.samples, config.seed)
    train_transform, test_transform = default_transforms(data)
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = resolve_model(
        config.model,
        classes=len(data.classes),
        channels=data.channels,
        pretrained=config.pretrained,
        image_size=data.image_size,
    ).to(device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(config, model)
    examine = {
        name: Examination(
            data.test, transform, channels_last=config.channels_last, workers=config.workers, seed=config.seed + 99
        )
        for name, transform in (("plain", test_transform), ("augmented", train_transform))
    }
    freezer = Freezer(
        model,
        train_set,
        batch_size=config.batch_size,
        epochs=config.epochs,
        transform=train_transform,
        policy=config.points,
        optimizer=optimizer,
        cache_dir=config.cache_dir or files.cache,
        disk_budget=None if config.disk_budget is None else int(config.disk_budget),
        over_budget=config.over_budget,
        build_from=config.build_from,
        views=config.views,
        ladder=config.ladder,
        mode=config.mode,
        settle=config.settle,
        seed=config.seed,
        device=device,
        window=config.window,
        tolerance=config.tolerance,
        workers=config.workers,
        channels_last=config.channels_last,
    )
    if not resume:
        config.write(files.config)
    journal = Journal(files.metrics, goes_on=resume)

    def say(record: dict[str, Any]) -> None:
        journal.write(record)
        if listener is not None:
            listener(record)

    try:
        say(start_record(config, data, len(train_set), freezer))  # type: ignore[arg-type]
        freezer.listener = say
        curve: Callable[[torch.nn.Module], dict[str, float]] = examine["plain"]
        if config.evaluation != "images":
            test = freezer.evaluation(data.test, test_transform, codec=config.evaluation)
            curve = lambda model: scores(model, freezer, test)  # noqa: E731
        began = time.perf_counter()
        with interruptible(on_stop) as stop:
            finished = fit(
                freezer,
                optimizer,
                epochs=config.epochs,
                evaluate=curve,
                checkpoint=files.checkpoint,
                resume=resume,
                stop=stop,
                on_step=on_step,
            )
        if finished:
            plain, augmented = examine["plain"](model), examine["augmented"](model)
            say(
                {
                    "event": "end",
                    "seconds": freezer.training_seconds,
                    "wall_seconds": time.perf_counter() - began,
                    "test_loss": plain["loss"],
                    "test_accuracy": plain["accuracy"],
                    "augmented_accuracy": augmented["accuracy"],
                }
            )
            save_model(files.model, model)
        report_on([files.folder])
        return Outcome(files, finished)
    finally:
        journal.close()
        freezer.close()


def make_optimizer(config: RunConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer that the configuration names, over all parameters."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, nesterov=True
    )


def start_record(config: RunConfig, data: Data, samples: int, freezer: Freezer) -> dict[str, Any]:
    """The first line of metrics.jsonl."""
    return {
        "event": "start",
        "model": config.model,
        "data": data.name,
        "samples": samples,
        "epochs": config.epochs,
        "seed": config.seed,
        "policy": repr(freezer.policy),
        "mode": config.mode,
        "cuts": [cut.label for cut in freezer.cuts],
        "transform": freezer.describe(),
        **describe_machine(),
        "config": asdict(config),
    }


def describe_machine() -> dict[str, Any]:
    """Hardware and versions, for the records."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "hardware": gpu or f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
