"""`hoarfrost report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .terminal import say, told_plainly

__all__ = ["report"]


def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs; several are compared.", metavar="DIR...")],
    out: Annotated[Path | None, typer.Option(help="The file; default: report.html in the run's folder.")] = None,
) -> None:
    """Write the report of a run anew from its metrics.jsonl, also while it runs; or compare several runs."""
    with told_plainly():
        from ..running import report_on

        say(f"report   {report_on(folders, out)}")
