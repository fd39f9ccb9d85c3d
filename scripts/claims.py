"""Which measured figures a page of README and docs states, and which record each is to be found in.

A page is divided into sections by its headings and into blocks by blank lines. A comment before a block, or before a
heading for all of its section, says where the figures come from:

    <!-- figures: gpu-h200.json -->        each is one of this record's numbers, rounded as it stands in the text
    <!-- figures: none, settings -->       nothing here was measured, and what it is instead
    <!-- table: routing -->                the block is written by scripts/tables.py
    <!-- /table -->

`python scripts/claims.py` lists the sections that state figures without saying where they come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"

_NUMBER = r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?"
_NAMED = ("torch", "torchvision", "PyTorch", "Python", "CUDA", "driver", "arXiv", "wav2vec")
_RATIO = r"x\b| ?%| ± | times (?:faster|slower|fewer|sooner|as|less|more)"
_UNIT = r" (?:images|tokens|samples)/s| [GM]B/s| points?\b| ms\b| µs\b| s\b"
_DECIMAL = r"\d[\d,]*\.\d+(?:e-?\d+)?(?![\d.])"
_BEGIN = rf"(?<![\w.,-]){''.join(f'(?<!{name} )' for name in _NAMED)}"
FIGURE = re.compile(rf"{_BEGIN}(?:{_DECIMAL}|{_NUMBER}(?={_RATIO}|{_UNIT}))")
"""A number that was probably measured: with a decimal point and no version, or with a unit of measurements."""
THOUSANDS = re.compile(rf"{_BEGIN}\d{{1,3}}(?:,\d{{3}})+(?!,?\d)(?!\.\d)")

_CODE = re.compile(r"`[^`]*`|\]\([^)]*\)|<[^>]*>")
_MARK = re.compile(r"^<!-- (?:figures|table): (.*) -->$")
_SCALES = (1, 100, 1e3, 1e6, 1e-3, 1e-6, 1e-9)
"""Per cent, thousandths, millionths; kilo, mega, giga."""


@dataclass(frozen=True)
class Block:
    """Some lines of a page that belong together."""

    page: str
    section: str
    """The heading's words, as links have them."""
    text: str
    mark: str | None
    """What the comment before it names: a record's file, `none, ...`, or the table that it is."""

    @property
    def place(self) -> str:
        return f"{self.page}#{self.section}" if self.section else self.page

    @property
    def plain(self) -> str:
        """Without code, addresses and tags."""
        return _CODE.sub("", self.text)

    @property
    def figures(self) -> list[str]:
        """What was probably measured; in a table every cell that is a number."""
        plain = self.plain
        rows = [line for line in plain.splitlines() if line.startswith("|")]
        cells = [cell.strip(" *") for row in rows[2:] for cell in row.strip("|").split("|")]
        found = [figure.group() for figure in FIGURE.finditer(plain)]
        return found + [cell for cell in cells if re.fullmatch(_NUMBER, cell) and cell not in found]


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: str, text: str) -> Iterator[Block]:
    """The blocks of a page, code left out. A mark holds for one block, for its table, or for its section."""
    section, of_section, mark = "", None, None
    lines: list[str] = []
    fenced = table = False

    def ended() -> Iterator[Block]:
        nonlocal mark
        if lines:
            yield Block(page, section, "\n".join(lines), mark or of_section)
            lines.clear()
            mark = mark if table else None

    for line in [*text.splitlines(), ""]:
        if line.startswith("```"):
            yield from ended()
            fenced = not fenced
        elif fenced:
            continue
        elif found := _MARK.match(line):
            yield from ended()
            mark, table = found[1], line.startswith("<!-- table")
        elif line == "<!-- /table -->":
            yield from ended()
            mark, table = None, False
        elif line.startswith("#"):
            yield from ended()
            section = re.sub(r"[^\w -]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
            of_section, mark = mark, None
        elif line.strip():
            lines.append(line)
        else:
            yield from ended()


def unmarked(page: str, text: str) -> dict[str, list[str]]:
    """Figures of which nothing says where they come from, by the section they stand in."""
    found: dict[str, list[str]] = {}
    for block in blocks(page, text):
        if block.mark is None and block.figures:
            found.setdefault(block.place, []).extend(block.figures)
    return found


def astray(block: Block, numbers: Iterable[float]) -> list[str]:
    """Figures of a block, and its thousands, that are none of these numbers, rounded as they stand there."""
    known, stated = list(numbers), dict.fromkeys([*block.figures, *THOUSANDS.findall(block.plain)])
    return [figure for figure in stated if not any(rounded_to(figure, number) for number in known)]


def leaves(record: Any) -> Iterator[float]:
    """All numbers in a record."""
    if isinstance(record, dict):
        record = list(record.values())
    if isinstance(record, list):
        for part in record:
            yield from leaves(part)
    elif isinstance(record, int | float) and not isinstance(record, bool):
        yield record


def rounded_to(figure: str, number: float) -> bool:
    """Whether the figure is the number, rounded to as many digits, in whatever power of ten its unit means.

    A sign is not compared: a text says "2.3 points lower" of -2.3.
    """
    said = figure.replace(",", "").lstrip("-")
    mantissa, _, power = said.partition("e")
    decimals = len(mantissa.partition(".")[2])
    if power:
        return float(f"{abs(number):.{decimals}e}") == float(said)
    return any(f"{abs(number) * scale:.{decimals}f}" == said for scale in _SCALES)


def main() -> None:
    for path in pages():
        for place, figures in unmarked(path.relative_to(ROOT).as_posix(), path.read_text()).items():
            print(f"{place}: {', '.join(figures[:8])}{', ...' if len(figures) > 8 else ''}")


if __name__ == "__main__":
    main()
