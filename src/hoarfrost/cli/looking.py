"""Commands that look and change nothing: a model's cuts, a run's report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import print_table
from ..runfiles import report_on
from ..tables import cuts_table
from .telling import console, say, told_plainly

__all__ = ["cuts", "report"]


def cuts(
    model: Annotated[str, typer.Argument(help="A torchvision classifier, cifar_resnet, or module:function.")],
    data: Annotated[str | None, typer.Option(help="Take the images' size and channels from these data.")] = None,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels, where no data are given.")] = 224,
    channels: Annotated[int, typer.Option(min=1, help="Of the images, where no data are given.")] = 3,
    max_tensors: Annotated[int, typer.Option(min=1, help="How many tensors may cross a cut.")] = 1,
    every: Annotated[bool, typer.Option("--all", help="Also the cuts inside blocks.")] = False,
) -> None:
    """Show where a model can be divided, and what lies in front."""
    with told_plainly():
        table = cuts_table(
            model, data=data, channels=channels, image_size=image_size, max_tensors=max_tensors, every=every
        )
        print_table(console, table)


def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs; several are compared.", metavar="DIR...")],
    out: Annotated[Path | None, typer.Option(help="The file; default: report.html in the run's folder.")] = None,
) -> None:
    """Write the report of a run anew from its metrics.jsonl, also while it runs; or compare several runs."""
    with told_plainly():
        say(f"report   {report_on(folders, out)}")
