"""The command: parse, call, print."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .console import RunDisplay
from .demo import run_demo
from .errors import HoarfrostError
from .run import RunConfig
from .run import train as run_training

__all__ = ["app"]

app = typer.Typer(help="Train on stored features instead of frozen layers.", no_args_is_help=True, add_completion=False)
console = Console()

Option = typer.Option


def parse_points(text: str) -> dict[int, str | int]:
    """`5=layer1,10=layer2` -> {5: "layer1", 10: "layer2"}."""
    try:
        pairs = [point.split("=", 1) for point in text.split(",")]
        return {int(epoch): cut.strip() for epoch, cut in pairs}
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no schedule; write 5=layer1,10=layer2") from None


def show_version(asked: bool) -> None:
    """Print the version and leave."""
    if asked:
        console.print(f"hoarfrost {metadata.version('hoarfrost')}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train on stored features instead of frozen layers."""


@app.command()
def train(
    config: Annotated[Path | None, Option(help="A YAML file with the same names; options win over it.")] = None,
    model: Annotated[str | None, Option(help="A torchvision classifier, cifar_resnet, or module:function.")] = None,
    data: Annotated[str | None, Option(help="embedded, fashion-mnist, or an image folder.")] = None,
    epochs: Annotated[int | None, Option(min=1)] = None,
    batch_size: Annotated[int | None, Option(min=1)] = None,
    optimizer: Annotated[str | None, Option(help="sgd or adamw.")] = None,
    lr: Annotated[float | None, Option(help="Peak learning rate.")] = None,
    weight_decay: Annotated[float | None, Option()] = None,
    pretrained: Annotated[bool | None, Option("--pretrained/--from-scratch")] = None,
    image_size: Annotated[int | None, Option(min=1, help="Pixels that images are brought to.")] = None,
    policy: Annotated[str | None, Option(help="schedule or none.")] = None,
    freeze: Annotated[str | None, Option(help="What to freeze when: 5=layer1,10=layer2.")] = None,
    cut: Annotated[str | None, Option(help="One cut to freeze.")] = None,
    cut_epoch: Annotated[int | None, Option(min=0, help="Before which epoch; default: a quarter of them.")] = None,
    views: Annotated[int | None, Option(min=1, help="Stored random renditions of each image.")] = None,
    ladder: Annotated[str | None, Option(help="auto, exact, half, or a number of bits.")] = None,
    mode: Annotated[str | None, Option(help="auto, cache or recompute.")] = None,
    tolerance: Annotated[float | None, Option(help="Harm that compression may do, KL in nats.")] = None,
    cache_dir: Annotated[Path | None, Option(help="Where features are stored; default: in --out.")] = None,
    disk_budget: Annotated[str | None, Option(help="Most that they may take: 500MB, 2GiB.")] = None,
    workers: Annotated[int | None, Option(min=0, help="Processes that read images.")] = None,
    channels_last: Annotated[bool | None, Option("--channels-last/--channels-first")] = None,
    device: Annotated[str | None, Option(help="cpu, cuda, ...; default: a GPU if there is one.")] = None,
    seed: Annotated[int | None, Option()] = None,
    out: Annotated[
        Path | None, Option(help="Folder for the model, metrics and report; default: a new one in runs/.")
    ] = None,
    resume: Annotated[bool, Option("--resume", help="Go on from the checkpoint in --out.")] = False,
) -> None:
    """Train a model, freezing front layers as they settle and storing what they produce."""
    given: dict[str, Any] = {
        "model": model,
        "data": data,
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "lr": lr,
        "weight_decay": weight_decay,
        "pretrained": pretrained,
        "image_size": image_size,
        "policy": policy,
        "freeze": None if freeze is None else parse_points(freeze),
        "cut": cut,
        "cut_epoch": cut_epoch,
        "views": views,
        "ladder": int(ladder) if ladder is not None and ladder.isdigit() else ladder,
        "mode": mode,
        "tolerance": tolerance,
        "cache_dir": None if cache_dir is None else str(cache_dir),
        "disk_budget": disk_budget,
        "workers": workers,
        "channels_last": channels_last,
        "device": device,
        "seed": seed,
        "out": None if out is None else str(out),
    }
    over = {name: value for name, value in given.items() if value is not None}
    with _told_plainly():
        described = replace(RunConfig(), **over) if config is None else RunConfig.from_yaml(config, **over)
        with RunDisplay(console) as display:
            files, finished = run_training(described, resume=resume, listener=display.show, on_step=display.step)
    if not finished:
        console.print(f"interrupted; {files.checkpoint} holds everything: the same command with --resume goes on")
        raise typer.Exit(130)
    console.print(f"model {files.model}\nmetrics {files.metrics}\nreport {files.report}", highlight=False)


@app.command()
def demo(
    out: Annotated[Path, Option(help="Folder for the records and the report.")] = Path("demo"),
    seed: Annotated[int, Option()] = 0,
    story: Annotated[str, Option(help="both, scratch or finetuning.")] = "both",
) -> None:
    """The main job on the embedded data: two stories, each with its honest rivals; about ten minutes on two cores."""
    with _told_plainly():
        run_demo(out, seed=seed, story=story, console=console)


class _told_plainly:  # noqa: N801 (a context manager that reads as a phrase)
    """Our own errors are shown as a sentence, not as a traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, HoarfrostError):
            Console(stderr=True).print(f"[bold red]{type(error).__name__}[/]: {error}", highlight=False)
            raise typer.Exit(2) from error
