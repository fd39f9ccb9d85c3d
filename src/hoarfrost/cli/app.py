"""The command and what belongs to all of it.

Commands import what needs torch where the work begins: the help and a mistyped option then answer at once.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from .cache import cache
from .cuts import cuts
from .plan import plan
from .report import report
from .sensitivity import sensitivity
from .terminal import console, say, told_plainly
from .train import train

__all__ = ["app"]

app = typer.Typer(
    help="Train on stored features instead of frozen layers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def show_version(asked: bool) -> None:
    """Print the version and leave."""
    if asked:
        say(f"hoarfrost {metadata.version('hoarfrost')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train on stored features instead of frozen layers."""


app.command()(train)
app.command()(cuts)
app.command()(plan)
app.command()(sensitivity)
app.command()(report)
app.add_typer(cache, name="cache")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the records and the report.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of all arms.")] = 0,
    story: Annotated[str, typer.Option(help="scratch, finetuning, paper or all.")] = "all",
) -> None:
    """The main job on the embedded data: three stories, each with its honest rivals; seven minutes on two cores."""
    with told_plainly():
        from ..demo import run_demo

        run_demo(out, seed=seed, story=story, console=console)
