"""`hoarfrost cache`: what is stored, whether it is whole, and removing it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ArgumentError
from .terminal import console, say, told_plainly

__all__ = ["cache"]

cache = typer.Typer(help="Look at stored features, check them, remove them.", no_args_is_help=True)

Directory = Annotated[str, typer.Argument(help="A cache directory, or a URL, as in train's --cache-dir.")]


@cache.command("ls")
def ls(directory: Directory) -> None:
    """List the caches in a directory, or at a URL."""
    with told_plainly():
        from ..report import print_table
        from .cache_tables import caches_table

        print_table(console, caches_table(directory))


@cache.command()
def verify(directory: Directory) -> None:
    """Read every cache in a directory, or at a URL, from end to end; exit code 1 if something is damaged."""
    with told_plainly():
        from ..report import print_table
        from .cache_tables import damage_table

        table = damage_table(directory)
        print_table(console, table)
    if table.rows:
        raise typer.Exit(1)


@cache.command()
def prune(
    directory: Directory,
    every: Annotated[bool, typer.Option("--all", help="Finished caches too, not only abandoned builds.")] = False,
    keep: Annotated[list[str] | None, typer.Option(help="The key of a cache to keep, as ls shows it.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove builds that nobody goes on with; with --all, finished caches as well, damaged ones among them."""
    with told_plainly():
        from ..cache import prune as prune_caches
        from ..report import print_table
        from .cache_tables import caches_in, caches_table, place_of

        place = place_of(directory)
        known = {info.key for info in caches_in(place)}
        unknown = sorted(set(keep or []) - known)
        if unknown:
            raise ArgumentError(f"--keep {unknown[0]}: there is no such cache in {directory}; ls shows the keys")
        if every and not yes and known - set(keep or []):
            print_table(console, caches_table(directory))
            spared = f" but {', '.join(sorted(set(keep or [])))}" if keep else ""
            typer.confirm(f"Remove these caches{spared}?", abort=True)
        removed: list[object] = []
        if isinstance(place, Path):
            removed += prune_caches(place, keep or [], abandoned_only=not every)
        else:
            removed += place.prune(keep or [], abandoned_only=not every)
    for path in removed:
        say(f"removed {path}")
    say(f"{len(removed)} removed")
