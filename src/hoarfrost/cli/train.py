"""`hoarfrost train`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..running import RunConfig, RunFiles, process_number, started
from .options import RUN, as_told, option, takes
from .terminal import INTERRUPTED, console, say, speak_as, told_plainly

__all__ = ["train"]


@takes(left_out=True)
def train(
    *,
    config: Annotated[
        Path | None, option(RUN, "FILE", text="A YAML file with the same names; options win over it.")
    ] = None,
    resume: Annotated[
        bool, option(RUN, None, "--resume", text="Go on with the run in --out; it remembers the other options.")
    ] = False,
    **told: Any,
) -> None:
    """Train a model, freezing front layers as they settle and storing what they produce."""
    speak_as(process_number())
    with told_plainly():
        described = RunConfig.told(config, resume=resume, **as_told(told))
        processes = started(described.rendering.precision)
        described = replace(described, out=_folder(described, resume, processes))
    files = RunFiles(Path(str(described.out)))

    def how_to_go_on() -> str:
        if not files.checkpoint.exists():
            return "no epoch was finished yet, so there is nothing to resume from"
        together = f", in {processes} processes" if processes > 1 else ""
        return f"to go on: hoarfrost train --out {files.folder} --resume{together}"

    def what_is_left() -> str:
        return how_to_go_on() if files.checkpoint.exists() and not resume else ""

    with told_plainly(how_to_go_on, what_is_left):
        from ..running import train as run_training

        with _display() as shown:
            outcome = run_training(described, resume=resume, **shown)
    if not outcome.finished:
        say(f"interrupted, nothing is lost; {how_to_go_on()}")
        raise typer.Exit(INTERRUPTED)
    if outcome.before:
        say(f"the run in {files.folder} is finished: all {described.epochs} epochs are trained")
    say(f"model    {files.model}\nmetrics  {files.metrics}\nreport   {files.report}")


def _folder(described: RunConfig, resume: bool, processes: int) -> str:
    """The run's: one process names it for all."""
    if processes == 1:
        return str(described.folder(resume))
    from ..running import Processes

    return Processes.of(described).ranks.lead("the run's folder", lambda: str(described.folder(resume)))


@contextmanager
def _display() -> Iterator[dict[str, Any]]:
    """What a run tells, shown in the terminal by the one process that does so."""
    if console.quiet:
        yield {}
        return
    from ..running import RunDisplay

    with RunDisplay(console) as display:
        yield {"listener": display.show, "on_step": display.step, "on_stop": display.stopping}
