"""How the command speaks: results to stdout, errors as one sentence to stderr."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape

from ..errors import HoarfrostError, RankError

__all__ = ["INTERRUPTED", "REFUSED", "console", "measuring", "say", "speak_as", "told_plainly"]

REFUSED, INTERRUPTED = 2, 130
"""Exit codes: the arguments or what they name cannot be used; Ctrl-C."""

PATIENCE_SECONDS = 20.0
"""In which a launcher ends the others, once one process has said what befalls all."""

console = Console()

_speaker = ""


def speak_as(rank: int) -> None:
    """Of several processes one shows what is done; what befalls another is told with its number."""
    global _speaker
    console.quiet = rank > 0
    _speaker = f"rank {rank}: " if rank else ""


def say(text: str) -> None:
    """Print as it is: a path is never wrapped, since it is copied."""
    console.print(escape(text), highlight=False, soft_wrap=True)


@contextmanager
def measuring(first: str) -> Iterator[Callable[[int, int], None]]:
    """Says what is measured, `first` and then cut by cut; not on stdout, which may be read by a program."""
    with Console(stderr=True).status(first) as status:
        yield lambda done, of: status.update(f"measuring cut {done + 1} of {of}")


@contextmanager
def told_plainly(
    on_interrupt: Callable[[], str] = lambda: "", on_error: Callable[[], str] = lambda: ""
) -> Iterator[None]:
    """Our own errors, the disk's and Ctrl-C are shown as a sentence, not as a traceback.

    Args:
        on_interrupt, on_error: what to add, such as how to go on.
    """
    try:
        yield
    except (HoarfrostError, OSError) as error:
        if console.quiet:
            _wait_to_be_ended()
            if isinstance(error, RankError) and error.told:
                raise typer.Exit(REFUSED) from error  # whose error it is says it, and the one that speaks
        errors = Console(stderr=True)
        name = type(error).__name__
        errors.print(f"{_speaker}[bold red]{name}[/]: {escape(str(error))}", highlight=False, soft_wrap=True)
        more = on_error()
        if more:
            errors.print(escape(more), highlight=False, soft_wrap=True)
        raise typer.Exit(REFUSED) from error
    except KeyboardInterrupt as error:
        # All that is left is to leave: one more ends the process, without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        more = on_interrupt()
        say("stopped at once" + (f"; {more}" if more else ""))
        raise typer.Exit(INTERRUPTED) from error


def _wait_to_be_ended() -> None:
    """What befalls all is said by the process that speaks: a launcher ends the others when that one has ended, and this
    one too soon would end it amid its sentence."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(REFUSED))
    time.sleep(PATIENCE_SECONDS)
