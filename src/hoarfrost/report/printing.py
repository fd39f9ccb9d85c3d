"""Tables in the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from .table import Table

__all__ = ["print_table"]

GAP = 2
"""Blanks between the columns of a table."""

SENTENCE = 40
"""Cells with blanks that are longer than this may be wrapped to it."""


def print_table(console: Console, table: Table) -> None:
    """A report's table in the terminal; what is too wide follows below, each part with the first column."""
    console.print(f"[bold]{escape(table.title)}[/]", highlight=False)
    if table.rows:
        console.print()
        for columns in _parts(table, console.width):
            console.print(_part(table, columns))
            console.print()
    if table.note:
        console.print(f"[dim]{escape(table.note)}[/]", highlight=False)


def _parts(table: Table, width: int) -> list[list[int]]:
    """Numbers of the columns that fit beside each other, the first of all in each part."""
    columns = zip(table.header, *table.rows, strict=True)
    widths = [max(min(cell_len(cell), SENTENCE) if " " in cell else cell_len(cell) for cell in c) for c in columns]
    parts = [[0]]
    taken = widths[0]
    for number in range(1, len(widths)):
        if taken + GAP + widths[number] > width and len(parts[-1]) > 1:
            parts.append([0])
            taken = widths[0]
        parts[-1].append(number)
        taken += GAP + widths[number]
    return parts


def _part(table: Table, columns: list[int]) -> RichTable:
    part = RichTable(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True, header_style="dim")
    for number in columns:
        numeric = table.numeric[number]
        # A number is never broken; a name that alone is too wide goes on in the next line.
        part.add_column(table.header[number], justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for order, row in enumerate(table.rows):
        part.add_row(*(escape(row[number]) for number in columns), style="bold" if order == table.emphasis else "")
    return part
