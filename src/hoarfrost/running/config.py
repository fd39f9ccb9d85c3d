"""What a run is told: on the command line, in a YAML file, or both."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from ..errors import ArgumentError
from ..settings import OverBudget
from .files import RunFiles

__all__ = ["RunConfig", "parse_bytes"]

OPTIMIZERS = ("sgd", "adamw")
MAY_CHANGE = frozenset({"workers", "device", "out"})
"""What a resumed run may be told anew: it does not change the result, or only by rounding."""


@dataclass(frozen=True)
class RunConfig:
    """What `hoarfrost train` is told, on its command line or in a YAML file of the same names.

    Args:
        model: a torchvision classifier, `cifar_resnet`, `efficientnet_lite0`, or "module:function".
        data: "embedded", "fashion-mnist", or an image folder.
        samples: train on so many of the images only, drawn by the seed; None: on all.
        epochs, batch_size, seed: whole numbers.
        optimizer, lr, momentum, weight_decay: "sgd" (Nesterov) or "adamw"; lr is the peak of a cosine with warm-up.
        pretrained: start from ImageNet weights.
        image_size: pixels that images are brought to; None: what fits the data.
        policy: "schedule" (an even one), "none", or another of `hoarfrost.policies.NAMED`.
        freeze: epochs, from 0, to cuts; overrides `policy`.
        cut: one cut to freeze, at `cut_epoch`; a shorter way to write `freeze`.
        views, ladder, mode, settle, window, tolerance, disk_budget, over_budget, build_from, workers,
            channels_last, device: as in `Freezer`.
        evaluation: what each epoch is evaluated on: "images", or features that are stored behind a freeze, "exact" or
            at a number of bits. The last figures are those of the whole model on images.
        cache_dir: None: `cache` in `out`.
        out: the folder for model.safetensors, metrics.jsonl, report.html and the checkpoint; None: a new one in `runs`,
            named after model and data.
    """

    model: str = "cifar_resnet"
    data: str = "embedded"
    samples: int | None = None
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
    settle: str = "statistics"
    window: int = 16
    tolerance: float = 1e-3
    disk_budget: int | str | None = None
    over_budget: str = "views,recompute"
    build_from: str = "images"
    evaluation: str | int = "images"
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
        OverBudget.of(self.over_budget)
        if self.cut is not None and self.freeze is not None:
            raise ArgumentError("give cut or freeze, not both: freeze says everything that cut can say")

    @classmethod
    def told(cls, path: str | Path | None = None, *, resume: bool = False, **told: Any) -> RunConfig:
        """Put together a configuration from a YAML file of this class's names and from options, which win over it.

        A run that is resumed remembers its own configuration.

        Raises:
            ArgumentError: no such file, no mapping, names that do not exist; nothing to resume; or a resumed run is
                told something else than it was begun with.
        """
        given = (_read_yaml(path) if path is not None else {}) | told
        _check_names(path, given)
        if not resume:
            return cls(**given)
        if given.get("out") is None:
            raise ArgumentError("to resume, name the run's folder: --out")
        begun = RunFiles(Path(str(given["out"]))).config
        if not begun.exists():
            raise ArgumentError(f"there is no run to resume in {begun.parent}: it holds no {begun.name}")
        remembered = _read_yaml(begun)
        _check_names(begun, remembered)
        before, now = cls(**remembered), cls(**(remembered | given))
        for name, value in asdict(now).items():
            if name not in MAY_CHANGE and value != getattr(before, name):
                raise ArgumentError(
                    f"the run in {begun.parent} was begun with {name}={getattr(before, name)!r} and cannot go on with "
                    f"{value!r}; when resuming, leave it out"
                )
        return now

    def write(self, path: Path) -> None:
        """Write the YAML file that `told` reads: what differs from the defaults."""
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = {name: dict(v) if isinstance(v, Mapping) else v for name, v in asdict(self).items()}
        differing = {name: value for name, value in plain.items() if value != getattr(RunConfig(), name)}
        path.write_text(yaml.safe_dump(differing, sort_keys=False) if differing else "{}\n")

    def folder(self, resume: bool = False) -> Path:
        """Where the run's files go.

        Raises:
            ArgumentError: another run's files lie there, and this is no resume.
        """
        if self.out is None:
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


def _read_yaml(path: str | Path) -> dict[str, Any]:
    try:
        read = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ArgumentError(f"the configuration {path} cannot be read: {error}") from error
    if not isinstance(read, dict):
        raise ArgumentError(f"the configuration {path} holds a {type(read).__name__}, not names with values")
    return read


def _check_names(path: str | Path | None, given: Mapping[str, Any]) -> None:
    known = {f.name for f in fields(RunConfig)}
    unknown = sorted(set(given) - known)
    if unknown:
        where = f"the configuration {path} has" if path is not None else "there are"
        raise ArgumentError(f"{where} unknown names {', '.join(unknown)}; known are {', '.join(sorted(known))}")


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
