"""How sensitive the channels of each cut are, as a page with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from .channel_tables import (
    METRICS,
    Found,
    highest_of,
    percent,
    quantiles,
    sensitivity_tables,
    steps_of,
    three_digits,
)
from .format import format_bytes
from .page import Chapter, write_page
from .style import DASHES, INK, PAPER, QUIET, RAMP, SERIES, WIDE, calm, new_figure, to_svg

__all__ = ["write_sensitivity"]

ROOM = 0.05
"""Share of a picture's width that the label of a mark takes."""

CASING = [withStroke(linewidth=2.8, foreground=PAPER)]
"""Lines keep apart from dark bars."""

BORDERS = {
    "zeros": "zero",
    "replicate": "the nearest cell's value",
    "blank": "what the model makes of what lies beyond an image's borders",
}


def write_sensitivity(path: str | Path, found: Found) -> Path:
    """Write one HTML file: the transform's steps, each cut's channels as a picture, and the tables.

    Args:
        path: the file; its folder is made, and the file replaced in one step.

    Returns:
        The path of the file.
    """
    highest = highest_of(found)
    steps = steps_of(found)
    drawn = any(cut["sensitivity"] is not None for cut in found["cuts"])
    return write_page(
        Path(path),
        "sensitivity.html.jinja",
        title=f"Sensitivity of {found['model']} on {found['data']}",
        facts=[],
        origin=[
            ("images", f"{found['samples']:,}"),
            ("metric", f"{found['metric']}, {METRICS[found['metric']]}"),
            ("seed", str(found["seed"])),
            ("tolerance", f"{found['tolerance']:g} nats"),
        ],
        transform=found["transform"],
        drawn=drawn,
        top=three_digits(highest),
        legend=[(name, *_look(order)) for order, name in enumerate(steps)] if len(steps) > 1 else [],
        cuts=[_cut(cut, order, steps, highest) for order, cut in enumerate(found["cuts"])],
        chapters=[Chapter([], sensitivity_tables(found))],
        notes=[],
    )


def _cut(cut: Found, order: int, steps: Sequence[str], highest: float) -> dict[str, Any]:
    features = " x ".join(map(str, cut["features"]))
    described = f"{features} · {cut['codec']} · {format_bytes(cut['base_bytes_per_sample'])} an image"
    if cut["sensitivity"] is None:
        caption = f"Nothing can be derived: {cut['reason']}. Every further view is stored whole."
        return {
            "name": cut["cut"],
            "described": described,
            "svg": None,
            "caption": caption,
            "spoken": f"{cut['cut']}: {caption}",
        }
    most, median, least = map(three_digits, quantiles(cut["sensitivity"]))
    count = len(cut["sensitivity"])
    return {
        "name": cut["cut"],
        "described": described,
        "svg": Markup(_picture(cut, order, steps, highest)),
        "caption": (
            f"10 % of the channels are above {most}, half above {median}, 90 % above {least}. "
            f"Where the base view does not show what a derived cell needs, it holds {BORDERS[cut['border']]}."
        ),
        "spoken": (
            f"Sensitivity of the {count} channels at {cut['cut']}: 10 % are above {most}, half above {median}, "
            f"90 % above {least}; the numbers are in the tables below"
        ),
    }


def _picture(cut: Found, order: int, steps: Sequence[str], highest: float) -> str:
    values = np.sort(np.asarray(cut["sensitivity"], dtype=float))[::-1]
    figure, grid = new_figure(WIDE, 2.2)
    axes = grid[0][0]
    _bars(axes, values, highest)
    if len(steps) > 1:
        for number, name in enumerate(steps):
            colour, dash = _look(number)
            alone = np.sort(np.asarray(cut["steps"][name], dtype=float))[::-1]
            axes.stairs(
                alone,
                np.arange(len(alone) + 1) + 0.5,
                baseline=None,
                color=SERIES[colour],
                linewidth=1.6,
                linestyle=DASHES[dash],
                path_effects=CASING,
                zorder=3,
            )
    _marks(axes, cut["further"], len(values))
    axes.set_xlim(0.5, len(values) + 0.5)
    axes.set_ylim(0, (highest or 1) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    calm(axes, x="channels, by rank")
    return to_svg(figure, f"sensitivity-{order}")


def _bars(axes: Axes, values: np.ndarray[Any, Any], highest: float) -> None:
    """A bar for each channel, coloured by its height; neighbours of one colour are one shape."""
    steps = np.minimum((values / (highest or 1) * len(RAMP)).astype(int), len(RAMP) - 1)
    starts = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(values)]
    for start, end in pairwise(starts):
        colour = RAMP[int(steps[start])]
        edges = np.arange(start, end + 1) + 0.5
        # The outline closes the hairline that would show between two colours.
        axes.stairs(values[start:end], edges, fill=True, facecolor=colour, edgecolor=colour, linewidth=0.4)


def _marks(axes: Axes, further: Sequence[Found], count: int) -> None:
    """A line behind the last stored channel of each share, named on top where there is room."""
    places = blended_transform_factory(axes.transData, axes.transAxes)
    taken = -ROOM
    for stored in sorted(further, key=lambda stored: len(stored["channels"])):
        place = len(stored["channels"]) / count
        if place != taken:
            axes.axvline(len(stored["channels"]) + 0.5, color=QUIET, linewidth=0.9, path_effects=CASING, zorder=4)
        if place - taken < ROOM:
            continue
        taken = place
        last = place > 1 - ROOM
        for height, text, colour in (
            (1.13, percent(stored["share"]), INK),
            (1.03, format_bytes(stored["bytes_per_sample"]), QUIET),
        ):
            axes.text(
                len(stored["channels"]) + 0.5,
                height,
                text,
                transform=places,
                ha="right" if last else "center",
                fontsize=8,
                color=colour,
            )


def _look(order: int) -> tuple[int, int]:
    """Number of the colour and of the dash of a step; the first colour is that of the bars."""
    return 1 + order % (len(SERIES) - 1), order % len(DASHES)
