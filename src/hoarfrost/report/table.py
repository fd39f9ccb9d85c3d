"""Tables whose cells are ready to print."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import ArgumentError

__all__ = ["Table"]


@dataclass(frozen=True)
class Table:
    """A table of the report or the terminal.

    Args:
        title: stands above it.
        header: names of the columns.
        rows: as many cells as the header each.
        emphasis: number of the row to set off, from 0.
        note: a line below, say on how it was measured.

    Raises:
        ArgumentError: a row's length differs from the header's, or there is no row `emphasis`.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    emphasis: int | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for order, row in enumerate(self.rows):
            if len(row) != len(self.header):
                raise ArgumentError(
                    f"table {self.title!r}: row {order} has {len(row)} cells, the header {len(self.header)}"
                )
        if self.emphasis is not None and not 0 <= self.emphasis < len(self.rows):
            raise ArgumentError(f"table {self.title!r} has {len(self.rows)} rows, none of number {self.emphasis}")

    @property
    def numeric(self) -> list[bool]:
        """For each column whether its cells are numbers, to be set flush right."""
        columns = zip(*self.rows, strict=True) if self.rows else ([] for _ in self.header)
        return [_numeric(column) for column in columns]


def _numeric(column: Iterable[str]) -> bool:
    cells = [cell for cell in column if cell.strip() not in ("", "–", "-")]
    return bool(cells) and all(re.match(r"^[-+−±<>≤≥~]?\s?[\d.,]*\d", cell) is not None for cell in cells)
