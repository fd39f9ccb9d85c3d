"""What a run is told: on the command line, in a YAML file, or both."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import ArgumentError
from ..plain_fields import check_plain_fields
from ..settings import Freezing, Reading, Rendering, Storing, fields_of, from_flat, group, option, to_flat, with_method
from ..untrusted import DEEPEST, read_regular, write_whole
from .files import RunFiles

__all__ = ["RunConfig"]

LARGEST, LONGEST = 1 << 20, 1000
"""Bytes of a configuration, and characters of a value in it."""

OPTIMIZERS = ("sgd", "adamw")
MAY_CHANGE = frozenset({"workers", "device", "out", "tensorboard"})
"""What a resumed run may be told anew: it does not change the result, or only by rounding."""

DATA, TRAINING, RUN = "Model and data", "Training", "Run"


@dataclass(frozen=True)
class RunConfig:
    """What `hoarfrost train` is told, on its command line or in a YAML file of the same names (`told`).

    Args:
        model: a torchvision classifier, `cifar_resnet`, `efficientnet_lite0`, `dinov2_small`, or "module:function".
        data: "embedded", "fashion-mnist", or an image folder.
        samples: train on so many of the images only, drawn by the seed; None: on all.
        image_size: pixels that images are brought to; None: what fits the data.
        background: the colour that transparent images of a folder are laid on, a name or `#rrggbb`.
        pretrained: start from ImageNet weights.
        freezing, storing, reading, rendering: what the `Freezer` is told; its cache lies in `cache` in `out` where
            `storing` names no other place.
        optimizer, lr, momentum, weight_decay: "sgd" (Nesterov) or "adamw"; lr is the peak of a cosine with warm-up.
        freeze: epochs, from 0, to cuts; overrides the policy.
        cut: one cut to freeze, at `cut_epoch`; a shorter way to write `freeze`.
        evaluation: what each epoch is evaluated on: "images", or features that are stored behind a freeze, "exact" or
            at a number of bits. The last figures are those of the whole model on images.
        out: the folder for model.safetensors, metrics.jsonl, report.html and the checkpoint; None: a new one in `runs`,
            named after model and data.
        tensorboard: write the records' numbers for TensorBoard too, in `tensorboard` in `out`.
    """

    model: str = option(
        "cifar_resnet", "NAME", "A torchvision classifier, cifar_resnet, or module:function", panel=DATA
    )
    data: str = option("embedded", "NAME|DIR", "embedded, fashion-mnist, or an image folder", panel=DATA)
    samples: int | None = option(None, "N", "Train on so many of the images, for a quick try", panel=DATA, typed=int)
    image_size: int | None = option(None, "N", "Pixels that images are brought to", panel=DATA, typed=int, min=1)
    background: str = option("white", "COLOUR", "What transparent images are laid on", panel=DATA)
    pretrained: bool = option(False, None, "ImageNet weights, or none", panel=DATA, flag="--pretrained/--from-scratch")
    freezing: Freezing = group(Freezing, epochs=20)
    freeze: Mapping[int, str | int] | None = option(
        None, "E=CUT,...", "What to freeze before which epoch, from 0: 5=layer1,10=layer2", typed=str
    )
    cut: str | None = option(None, "CUT", "One cut to freeze; hoarfrost cuts MODEL lists them", typed=str)
    cut_epoch: int | None = option(
        None, "E", "Before which epoch, from 0; default: a quarter of them", typed=int, min=0
    )
    reading: Reading = group(Reading, batch_size=64)
    storing: Storing = group(Storing)
    evaluation: str | int = option(
        "images",
        "NAME|BITS",
        "What epochs are evaluated on: images, or stored features, exact or at a number of bits",
        typed=str,
    )
    optimizer: str = option("sgd", "NAME", "sgd or adamw", panel=TRAINING)
    lr: float = option(0.1, "X", "Peak learning rate", panel=TRAINING)
    momentum: float = option(0.9, "X", "Of sgd", panel=TRAINING)
    weight_decay: float = option(5e-4, "X", "Of all parameters", panel=TRAINING)
    out: str | None = option(
        None, "DIR", "For model, metrics and report; default: a new one in runs/", panel=RUN, typed=Path
    )
    tensorboard: bool = option(
        False, None, "Write curves for TensorBoard, in the run's folder", panel=RUN, flag="--tensorboard"
    )
    rendering: Rendering = group(Rendering)

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ArgumentError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {self.optimizer!r}")
        if self.freezing.epochs is None:
            raise ArgumentError("epochs must be a whole number of at least 1, not None")
        object.__setattr__(self, "out", None if self.out is None else str(self.out))
        check_plain_fields(self)
        if self.lr <= 0:
            raise ArgumentError(f"lr must be above 0, not {self.lr!r}")
        if self.cut is not None and self.freeze is not None:
            raise ArgumentError("give cut or freeze, not both: freeze says everything that cut can say")

    @classmethod
    def told(cls, path: str | Path | None = None, *, resume: bool = False, **told: Any) -> RunConfig:
        """Put together a configuration from a YAML file of plain names and from options, which win over it.

        The names are those of this class's fields, and of the fields of the settings in it.

        A run that is resumed remembers its own configuration.

        Raises:
            ArgumentError: no such file, no mapping, names that do not exist; nothing to resume; or a resumed run is
                told something else than it was begun with.
        """
        given = (_read_yaml(path) if path is not None else {}) | told
        _check_names(path, given)
        if not resume:
            return from_flat(cls, with_method(given))
        if given.get("out") is None:
            raise ArgumentError("to resume, name the run's folder: --out")
        begun = RunFiles(Path(str(given["out"]))).config
        if not begun.exists():
            raise ArgumentError(f"there is no run to resume in {begun.parent}: it holds no {begun.name}")
        remembered = _read_yaml(begun)
        _check_names(begun, remembered)
        before = to_flat(from_flat(cls, with_method(remembered)))
        now = from_flat(cls, with_method(remembered | given))
        for name, value in to_flat(now).items():
            if name not in MAY_CHANGE and value != before[name]:
                raise ArgumentError(
                    f"the run in {begun.parent} was begun with {name}={before[name]!r} and cannot go on with "
                    f"{value!r}; when resuming, leave it out"
                )
        return now

    def but(self, **told: Any) -> RunConfig:
        """The same, told some things otherwise, under the names of `told`."""
        return RunConfig.told(**{**to_flat(self), **told})

    def write(self, path: Path) -> None:
        """Write the YAML file that `told` reads: what differs from the defaults."""
        path.parent.mkdir(parents=True, exist_ok=True)
        method = self.freezing.method
        default = to_flat(RunConfig.told(method=method))
        differing = {name: value for name, value in to_flat(self).items() if value != default[name]}
        if method is not None:
            # Beside a method a number changes one field of these: all of them are said.
            whole = {"views": asdict(self.storing.views), "chunks": asdict(self.reading.chunks)}
            differing = {"method": method, **differing, **{key: whole[key] for key in whole if key in differing}}
        write_whole(path, (yaml.safe_dump(differing, sort_keys=False) if differing else "{}\n").encode())

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
    def epochs(self) -> int:
        return self.freezing.epochs or 0

    @property
    def points(self) -> Any:
        """The policy as `Freezer` takes it."""
        if self.cut is not None:
            return {self.cut_epoch if self.cut_epoch is not None else max(1, self.epochs // 4): self.cut}
        return self.freezing.policy if self.freeze is None else self.freeze

    @property
    def keywords(self) -> dict[str, Any]:
        """All that the `Freezer` is told beside model, data, transform and optimizer, under its own names."""
        settings = (self.freezing, self.storing, self.reading, self.rendering)
        told = {name: getattr(setting, name) for setting in settings for name in fields_of(type(setting))}
        return {**told, "policy": self.points}


def _read_yaml(path: str | Path) -> dict[str, Any]:
    try:
        text = read_regular(path, LARGEST, follow=True).decode("utf-8")
        _check_events(text)
        read = yaml.safe_load(text) or {}
    # A date that there is not, or a number of thousands of digits, is a ValueError.
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise ArgumentError(f"the configuration {path} cannot be read: {error}") from error
    if not isinstance(read, dict):
        raise ArgumentError(f"the configuration {path} holds a {type(read).__name__}, not names with values")
    return read


def _check_events(text: str) -> None:
    """Raises `ValueError` for what grows beyond its file: aliases, of which few stand for any number of values, and
    what is nested without end."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"it refers to a value by an alias, *{event.anchor}: write the value")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST:
            # Digits of a base of two, or of sixty, make numbers that Python takes long to print, or refuses to.
            raise ValueError(f"it holds a value of {len(event.value):,} characters, where {LONGEST:,} are the most")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def _check_names(path: str | Path | None, given: Mapping[str, Any]) -> None:
    known = fields_of(RunConfig)
    unknown = sorted(str(name) for name in given if name not in known)
    if unknown:
        where = f"the configuration {path} has" if path is not None else "there are"
        raise ArgumentError(f"{where} unknown names {', '.join(unknown)}; known are {', '.join(sorted(known))}")
