"""One training run from a description: data, model, loop, and the files it leaves."""

from __future__ import annotations

import itertools
import platform
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torchvision
import yaml

from .data import Data, default_transforms, open_data
from .errors import ArgumentError
from .examination import Examination
from .freezer import Freezer
from .models import resolve_model
from .report import Run, write_report
from .runfiles import Journal, RunFiles, save_model
from .training import fit, interruptible

__all__ = ["RunConfig", "describe_machine", "train"]

OPTIMIZERS = ("sgd", "adamw")


@dataclass(frozen=True)
class RunConfig:
    """What `hoarfrost train` is told, on its command line or in a YAML file of the same names.

    Args:
        model: a torchvision classifier, `cifar_resnet`, `efficientnet_lite0`, or "module:function".
        data: "embedded", "fashion-mnist", or an image folder.
        epochs, batch_size, seed: whole numbers.
        optimizer, lr, momentum, weight_decay: "sgd" (Nesterov) or "adamw"; lr is the peak of a cosine with warm-up.
        pretrained: start from ImageNet weights.
        image_size: pixels that images are brought to; None: what fits the data.
        policy: "schedule" (an even one) or "none".
        freeze: epochs, from 0, to cuts; overrides `policy`.
        cut: one cut to freeze, at `cut_epoch`; a shorter way to write `freeze`.
        views, ladder, mode, window, tolerance, disk_budget, workers, channels_last, device: as in `Freezer`.
        cache_dir: None: `cache` in `out`.
        out: the folder for model.safetensors, metrics.jsonl, report.html and the checkpoint; None: a new one in `runs`,
            named after model and data.
    """

    model: str = "cifar_resnet"
    data: str = "embedded"
    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    pretrained: bool = False
    image_size: int | None = None
    policy: str = "schedule"
    freeze: Mapping[int, str | int] | None = None
    cut: str | None = None
    cut_epoch: int | None = None
    views: int = 2
    ladder: str | int = "auto"
    mode: str = "auto"
    window: int = 16
    tolerance: float = 1e-3
    disk_budget: int | str | None = None
    cache_dir: str | None = None
    workers: int = 0
    channels_last: bool = False
    device: str | None = None
    seed: int = 0
    out: str | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ArgumentError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {self.optimizer!r}")
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 1:
            raise ArgumentError(f"epochs must be a whole number of at least 1, not {self.epochs!r}")
        if self.lr <= 0:
            raise ArgumentError(f"lr must be above 0, not {self.lr!r}")
        if isinstance(self.disk_budget, str):
            object.__setattr__(self, "disk_budget", parse_bytes(self.disk_budget))
        if self.cut is not None and self.freeze is not None:
            raise ArgumentError("give cut or freeze, not both: freeze says everything that cut can say")

    @classmethod
    def from_yaml(cls, path: str | Path, **over: Any) -> RunConfig:
        """Read a YAML file of this class's names; `over` wins.

        Raises:
            ArgumentError: no such file, no mapping, or names that do not exist.
        """
        try:
            read = yaml.safe_load(Path(path).read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ArgumentError(f"the configuration {path} cannot be read: {error}") from error
        if not isinstance(read, dict):
            raise ArgumentError(f"the configuration {path} holds a {type(read).__name__}, not names with values")
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(read) - known)
        if unknown:
            raise ArgumentError(
                f"the configuration {path} has unknown names {', '.join(unknown)}; known are {', '.join(sorted(known))}"
            )
        return cls(**{**read, **over})

    def folder(self, resume: bool) -> Path:
        """Where the run's files go.

        Raises:
            ArgumentError: another run's files lie there, and this is no resume; or a resume does not say where.
        """
        if self.out is None:
            if resume:
                raise ArgumentError("to resume, name the run's folder: --out")
            name = f"{self.model}-{Path(self.data).name}".replace(":", "-")
            taken = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
            return next(folder for folder in taken if not folder.exists())
        files = RunFiles(Path(self.out))
        held = [path for path in (files.model, files.checkpoint) if path.exists()]
        if held and not resume:
            raise ArgumentError(
                f"{files.folder} holds a run already ({held[0].name}): go on with --resume, or name another --out"
            )
        return files.folder

    @property
    def points(self) -> str | Mapping[int, str | int]:
        """The policy as `Freezer` takes it."""
        if self.cut is not None:
            return {self.cut_epoch if self.cut_epoch is not None else max(1, self.epochs // 4): self.cut}
        return self.policy if self.freeze is None else self.freeze


def train(
    config: RunConfig,
    *,
    resume: bool = False,
    listener: Callable[[dict[str, Any]], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[RunFiles, bool]:
    """Train as described and leave model.safetensors, metrics.jsonl and report.html in `config.out`.

    Returns:
        The files, and whether the run finished; if not, it was interrupted and left a checkpoint to resume from.
    """
    torch.manual_seed(config.seed)
    files = RunFiles(config.folder(resume))
    data = open_data(config.data, config.seed, image_size=config.image_size)
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
        data.train,
        batch_size=config.batch_size,
        epochs=config.epochs,
        transform=train_transform,
        policy=config.points,
        optimizer=optimizer,
        cache_dir=config.cache_dir or files.cache,
        disk_budget=None if config.disk_budget is None else int(config.disk_budget),
        views=config.views,
        ladder=config.ladder,
        mode=config.mode,
        seed=config.seed,
        device=device,
        window=config.window,
        tolerance=config.tolerance,
        workers=config.workers,
        channels_last=config.channels_last,
    )
    records: list[dict[str, Any]] = []
    journal = Journal(files.metrics)

    def say(record: dict[str, Any]) -> None:
        records.append(record)
        journal.write(record)
        if listener is not None:
            listener(record)

    try:
        say(start_record(config, data, freezer))
        freezer.listener = say
        began = time.perf_counter()
        with interruptible() as stop:
            finished = fit(
                freezer,
                optimizer,
                epochs=config.epochs,
                evaluate=examine["plain"],
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
        write_report(files.report, title=f"{config.model} on {data.name}", runs=[Run(config.model, records)])
        return files, finished
    finally:
        journal.close()
        freezer.close()


def parse_bytes(text: str) -> int:
    """`2GB`, `500 MiB`, `1000000` -> bytes.

    Raises:
        ArgumentError: no size.
    """
    units = {"": 1, "B": 1} | {f"{p}B": 1000**n for n, p in enumerate("KMGT", 1)}
    units |= {f"{p}IB": 1024**n for n, p in enumerate("KMGT", 1)}
    match = re.fullmatch(r"([0-9.]+)\s*([A-Z]*)", text.strip().upper())
    if match is None or match[2] not in units or match[1].count(".") > 1 or match[1] == ".":
        raise ArgumentError(f"{text!r} is no size; write 500MB, 2GiB or a number of bytes")
    return int(float(match[1]) * units[match[2]])


def make_optimizer(config: RunConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer that the configuration names, over all parameters."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, nesterov=True
    )


def start_record(config: RunConfig, data: Data, freezer: Freezer) -> dict[str, Any]:
    """The first line of metrics.jsonl."""
    return {
        "event": "start",
        "model": config.model,
        "data": data.name,
        "samples": len(data.train),  # type: ignore[arg-type]
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
