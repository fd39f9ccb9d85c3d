"""`hoarfrost train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ArgumentError
from ..policies import NAMED
from ..running.config import RunConfig
from ..running.display import RunDisplay
from ..running.files import RunFiles
from ..running.run import train as run_training
from .terminal import INTERRUPTED, console, say, told_plainly

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


DEFAULT = RunConfig()
DATA, TRAINING, FREEZING, RUN = "Model and data", "Training", "Freezing and storing", "Run"


def option(panel: str, metavar: str | None, *names: str, text: str, **more: Any) -> Any:
    """An option in a panel of the help; flags have no metavar."""
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel, **more)


def train(
    model: Annotated[
        str | None,
        option(
            DATA, "NAME", text=f"A torchvision classifier, cifar_resnet, or module:function; default: {DEFAULT.model}."
        ),
    ] = None,
    data: Annotated[
        str | None,
        option(DATA, "NAME|DIR", text=f"embedded, fashion-mnist, or an image folder; default: {DEFAULT.data}."),
    ] = None,
    samples: Annotated[int | None, option(DATA, "N", text="Train on so many of the images, for a quick try.")] = None,
    image_size: Annotated[int | None, option(DATA, "N", text="Pixels that images are brought to.", min=1)] = None,
    pretrained: Annotated[
        bool | None, option(DATA, None, "--pretrained/--from-scratch", text="ImageNet weights, or none.")
    ] = None,
    epochs: Annotated[
        int | None, option(TRAINING, "N", text=f"How often every image is seen; default: {DEFAULT.epochs}.", min=1)
    ] = None,
    batch_size: Annotated[
        int | None, option(TRAINING, "N", text=f"Images a step; default: {DEFAULT.batch_size}.", min=1)
    ] = None,
    optimizer: Annotated[
        str | None, option(TRAINING, "NAME", text=f"sgd or adamw; default: {DEFAULT.optimizer}.")
    ] = None,
    lr: Annotated[float | None, option(TRAINING, "X", text=f"Peak learning rate; default: {DEFAULT.lr}.")] = None,
    momentum: Annotated[float | None, option(TRAINING, "X", text=f"Of sgd; default: {DEFAULT.momentum}.")] = None,
    weight_decay: Annotated[
        float | None, option(TRAINING, "X", text=f"Of all parameters; default: {DEFAULT.weight_decay}.")
    ] = None,
    policy: Annotated[
        str | None,
        option(
            FREEZING,
            "NAME",
            text=f"{', '.join(sorted(NAMED))}, with settings as in budget:2x or egeria:thaw_at=none; "
            f"default: {DEFAULT.policy}.",
        ),
    ] = None,
    freeze: Annotated[
        str | None, option(FREEZING, "E=CUT,...", text="What to freeze before which epoch, from 0: 5=layer1,10=layer2.")
    ] = None,
    cut: Annotated[
        str | None, option(FREEZING, "CUT", text="One cut to freeze; hoarfrost cuts MODEL lists them.")
    ] = None,
    cut_epoch: Annotated[
        int | None, option(FREEZING, "E", text="Before which epoch, from 0; default: a quarter of them.", min=0)
    ] = None,
    views: Annotated[
        int | None,
        option(FREEZING, "N", text=f"Stored random renditions of each image; default: {DEFAULT.views}.", min=1),
    ] = None,
    ladder: Annotated[
        str | None,
        option(FREEZING, "NAME|BITS", text=f"auto, exact, half, or a number of bits; default: {DEFAULT.ladder}."),
    ] = None,
    mode: Annotated[
        str | None, option(FREEZING, "NAME", text=f"auto (the cheaper), cache or recompute; default: {DEFAULT.mode}.")
    ] = None,
    settle: Annotated[
        str | None,
        option(
            FREEZING,
            "NAME",
            text="What a front freezes as: with statistics of batch norms estimated anew, with its last ones, or the "
            f"average of its last epoch's weights; default: {DEFAULT.settle}.",
        ),
    ] = None,
    window: Annotated[
        int | None,
        option(FREEZING, "N", text=f"Chunks of 64 images that the shuffle mixes; default: {DEFAULT.window}."),
    ] = None,
    tolerance: Annotated[
        float | None,
        option(FREEZING, "X", text=f"Harm that compression may do, KL in nats; default: {DEFAULT.tolerance}."),
    ] = None,
    cache_dir: Annotated[
        Path | None, option(FREEZING, "DIR", text="Where features are stored and kept; default: in --out.")
    ] = None,
    disk_budget: Annotated[str | None, option(FREEZING, "SIZE", text="Most that they may take: 500MB, 2GiB.")] = None,
    over_budget: Annotated[
        str | None,
        option(
            FREEZING,
            "WAY,...",
            text=f"What to give up for it: views, rung, cut, recompute; default: {DEFAULT.over_budget}.",
        ),
    ] = None,
    build_from: Annotated[
        str | None,
        option(
            FREEZING,
            "NAME",
            text=f"A deeper cut's cache from images, or the earlier features; default: {DEFAULT.build_from}.",
        ),
    ] = None,
    evaluation: Annotated[
        str | None,
        option(
            FREEZING,
            "NAME|BITS",
            text="What epochs are evaluated on: images, or stored features, exact or at a number of bits; "
            f"default: {DEFAULT.evaluation}.",
        ),
    ] = None,
    config: Annotated[
        Path | None, option(RUN, "FILE", text="A YAML file with the same names; options win over it.")
    ] = None,
    out: Annotated[
        Path | None, option(RUN, "DIR", text="For model, metrics and report; default: a new one in runs/.")
    ] = None,
    resume: Annotated[
        bool, option(RUN, None, "--resume", text="Go on with the run in --out; it remembers the other options.")
    ] = False,
    seed: Annotated[
        int | None, option(RUN, "N", text=f"Of weights, orders and renditions; default: {DEFAULT.seed}.")
    ] = None,
    device: Annotated[str | None, option(RUN, "NAME", text="cpu, cuda, ...; default: a GPU if there is one.")] = None,
    workers: Annotated[
        int | None, option(RUN, "N", text=f"Processes that read images; default: {DEFAULT.workers}.", min=0)
    ] = None,
    channels_last: Annotated[
        bool | None, option(RUN, None, "--channels-last/--channels-first", text="Memory format of images.")
    ] = None,
) -> None:
    """Train a model, freezing front layers as they settle and storing what they produce."""
    given: dict[str, Any] = {name: value for name, value in locals().items() if name not in ("config", "resume")}
    told = {
        name: str(value) if isinstance(value, Path) else value for name, value in given.items() if value is not None
    }
    with told_plainly():
        if freeze is not None:
            told["freeze"] = parse_points(freeze)
        for name in ("ladder", "evaluation"):
            if str(told.get(name)).isdigit():
                told[name] = int(told[name])
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
