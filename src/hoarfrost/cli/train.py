"""`hoarfrost train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import RunDisplay
from ..errors import ArgumentError
from ..run import train as run_training
from ..runconfig import RunConfig
from ..runfiles import RunFiles
from .telling import INTERRUPTED, console, say, told_plainly

__all__ = ["train"]


def parse_points(text: str) -> dict[int, str | int]:
    """`5=layer1,10=layer2` -> {5: "layer1", 10: "layer2"}.

    Raises:
        ArgumentError: it is no such list.
    """
    try:
        pairs = [point.split("=", 1) for point in text.split(",")]
        return {int(epoch): cut.strip() for epoch, cut in pairs}
    except ValueError:
        raise ArgumentError(f"--freeze {text!r} is no schedule; write 5=layer1,10=layer2") from None


DATA, TRAINING, FREEZING, RUN = "Model and data", "Training", "Freezing and storing", "Run"


def option(panel: str, *names: str, text: str, **more: Any) -> Any:
    """An option in a panel of the help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def train(
    config: Annotated[Path | None, option(RUN, text="A YAML file with the same names; options win over it.")] = None,
    model: Annotated[
        str | None, option(DATA, text="A torchvision classifier, cifar_resnet, or module:function.")
    ] = None,
    data: Annotated[str | None, option(DATA, text="embedded, fashion-mnist, or an image folder.")] = None,
    samples: Annotated[int | None, option(DATA, text="Train on so many of the images, for a quick try.")] = None,
    image_size: Annotated[int | None, option(DATA, text="Pixels that images are brought to.", min=1)] = None,
    pretrained: Annotated[
        bool | None, option(DATA, "--pretrained/--from-scratch", text="ImageNet weights, or none.")
    ] = None,
    epochs: Annotated[int | None, option(TRAINING, text="How often every image is seen.", min=1)] = None,
    batch_size: Annotated[int | None, option(TRAINING, text="Images a step.", min=1)] = None,
    optimizer: Annotated[str | None, option(TRAINING, text="sgd or adamw.")] = None,
    lr: Annotated[float | None, option(TRAINING, text="Peak learning rate.")] = None,
    momentum: Annotated[float | None, option(TRAINING, text="Of sgd.")] = None,
    weight_decay: Annotated[float | None, option(TRAINING, text="Of all parameters.")] = None,
    policy: Annotated[str | None, option(FREEZING, text="schedule or none.")] = None,
    freeze: Annotated[
        str | None, option(FREEZING, text="What to freeze before which epoch, from 0: 5=layer1,10=layer2.")
    ] = None,
    cut: Annotated[str | None, option(FREEZING, text="One cut to freeze; hoarfrost cuts MODEL lists them.")] = None,
    cut_epoch: Annotated[
        int | None, option(FREEZING, text="Before which epoch, from 0; default: a quarter of them.", min=0)
    ] = None,
    views: Annotated[int | None, option(FREEZING, text="Stored random renditions of each image.", min=1)] = None,
    ladder: Annotated[str | None, option(FREEZING, text="auto, exact, half, or a number of bits.")] = None,
    mode: Annotated[str | None, option(FREEZING, text="auto (the cheaper), cache or recompute.")] = None,
    window: Annotated[int | None, option(FREEZING, text="Chunks of 64 images that the shuffle mixes.")] = None,
    tolerance: Annotated[float | None, option(FREEZING, text="Harm that compression may do, KL in nats.")] = None,
    cache_dir: Annotated[
        Path | None, option(FREEZING, text="Where features are stored and kept; default: in --out.")
    ] = None,
    disk_budget: Annotated[str | None, option(FREEZING, text="Most that they may take: 500MB, 2GiB.")] = None,
    workers: Annotated[int | None, option(RUN, text="Processes that read images.", min=0)] = None,
    channels_last: Annotated[
        bool | None, option(RUN, "--channels-last/--channels-first", text="Memory format of images.")
    ] = None,
    device: Annotated[str | None, option(RUN, text="cpu, cuda, ...; default: a GPU if there is one.")] = None,
    seed: Annotated[int | None, option(RUN, text="Of weights, orders and renditions.")] = None,
    out: Annotated[
        Path | None, option(RUN, text="Folder for the model, metrics and report; default: a new one in runs/.")
    ] = None,
    resume: Annotated[
        bool, option(RUN, "--resume", text="Go on from the checkpoint in --out; the other options are remembered.")
    ] = False,
) -> None:
    """Train a model, freezing front layers as they settle and storing what they produce."""
    given: dict[str, Any] = {name: value for name, value in locals().items() if name not in ("config", "resume")}
    told = {
        name: str(value) if isinstance(value, Path) else value for name, value in given.items() if value is not None
    }
    with told_plainly():
        if freeze is not None:
            told["freeze"] = parse_points(freeze)
        if ladder is not None and ladder.isdigit():
            told["ladder"] = int(ladder)
        described = RunConfig.told(config, resume=resume, **told)
        described = replace(described, out=str(described.folder(resume)))
    files = RunFiles(Path(str(described.out)))

    def how_to_go_on() -> str:
        if not files.checkpoint.exists():
            return "no epoch was finished yet, so there is nothing to resume from"
        return f"to go on: hoarfrost train --out {files.folder} --resume"

    def what_is_left() -> str:
        return how_to_go_on() if files.checkpoint.exists() and not resume else ""

    with told_plainly(how_to_go_on, what_is_left), RunDisplay(console) as display:
        outcome = run_training(
            described, resume=resume, listener=display.show, on_step=display.step, on_stop=display.stopping
        )
    if not outcome.finished:
        say(f"interrupted, nothing is lost; {how_to_go_on()}")
        raise typer.Exit(INTERRUPTED)
    if outcome.before:
        say(f"the run in {files.folder} is finished: all {described.epochs} epochs are trained")
    say(f"model    {files.model}\nmetrics  {files.metrics}\nreport   {files.report}")
