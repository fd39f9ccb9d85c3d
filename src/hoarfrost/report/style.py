"""How the figures look: drawn once, coloured by the page, in light, in dark and on paper.

Matplotlib needs fixed colours, a page that follows the reader's theme does not have them. So the figures are
drawn in stand-in colours, which become CSS variables in the SVG.
"""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter

__all__ = [
    "CACHE",
    "DASHES",
    "FAINT",
    "HALF",
    "IMAGES",
    "INK",
    "MUTED",
    "PAPER",
    "QUIET",
    "RAMP",
    "RECOMPUTE",
    "SERIES",
    "WIDE",
    "TextFormatter",
    "calm",
    "new_figure",
    "to_svg",
]

INK, QUIET, FAINT, PAPER, MUTED = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05"
IMAGES, RECOMPUTE, CACHE = "#0a0b11", "#0a0b12", "#0a0b13"
SERIES = tuple(f"#0a0b2{number}" for number in range(8))
RAMP = tuple(f"#0a0b3{number}" for number in range(8))
"""One hue from little to much; only pages that define `--ramp-0` to `--ramp-7` can show it."""

WIDE, HALF = 9.4, 4.3
DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1.2, 1.6)))
"""Widths of figures in inches, and the lines of further series of one colour."""

VARIABLES = {
    INK: "ink",
    QUIET: "quiet",
    FAINT: "faint",
    PAPER: "card",
    MUTED: "muted",
    IMAGES: "images",
    RECOMPUTE: "recompute",
    CACHE: "cache",
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES)},
    **{colour: f"ramp-{number}" for number, colour in enumerate(RAMP)},
}

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of `width` x `height` inches with a grid of axes ([rows, columns]), in the house's style."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def calm(axes: Axes, *, grid: str = "y", x: str = "", y: str = "") -> None:
    """Thin lines across, names of the axes, nothing else."""
    if grid:
        axes.grid(True, axis=grid)  # type: ignore[arg-type]
    if x:
        axes.set_xlabel(x)
    if y:
        axes.set_title(y, loc="left", color=INK, fontsize=9, pad=6)


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element for a page; `name` keeps its ids apart from other figures'."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    viewbox = re.search(r'viewBox="([^"]*)"', svg)
    body = svg[svg.index(">") + 1 :]
    # Ids of groups would be the same in every figure, and the style rule would reach the whole page.
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r'font-family: [^;"]*', "font-family: var(--font)", body)
    body = re.sub(r"font: ([^;\"']*px) [^;\"]*", r"font: \1 var(--font)", body)
    body = body.replace("xlink:href", "href")
    svg = f'<svg viewBox="{viewbox[1] if viewbox else ""}" aria-hidden="true">{body}'
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.strip()


class TextFormatter(Formatter):
    """Tick labels from a function of the value."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, x: float, pos: int | None = None) -> str:
        return str(self.function(x))
