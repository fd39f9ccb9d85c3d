"""How sensitive the channels of each cut are, as two tables and as a page with pictures.

What is shown is a plain mapping, as `hoarfrost.planning.model_cuts.ModelSensitivity.plain` gives it and `--json` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from .format import UNKNOWN, format_bytes, format_percent
from .page import Chapter, Table, write_page
from .run_figures import DASHES, WIDE
from .style import INK, PAPER, QUIET, RAMP, SERIES, calm, new_figure, to_svg

__all__ = ["sensitivity_tables", "write_sensitivity"]

Found = Mapping[str, Any]

BLOCKS = "▁▂▃▄▅▆▇█"

ROOM = 0.05
"""Share of a picture's width that the label of a mark takes."""

METRICS = {
    "cosine": "1 minus the cosine similarity",
    "relative": "squared error, relative to the features' own energy",
    "energy": "squared error, in the features' own unit",
    "harm": "mean squared change of the outputs' log-likelihood, in nats²",
}

CASING = [withStroke(linewidth=2.8, foreground=PAPER)]
"""Lines keep apart from dark bars."""

BORDERS = {
    "zeros": "zero",
    "replicate": "the nearest cell's value",
    "blank": "what the model makes of what lies beyond an image's borders",
}


def sensitivity_tables(found: Found) -> tuple[Table, Table]:
    """For each cut how sensitive its channels are, and what would be stored of each image."""
    return _channels_table(found), _bytes_table(found)


def write_sensitivity(path: str | Path, found: Found) -> Path:
    """Write one HTML file: the transform's steps, each cut's channels as a picture, and the tables.

    Args:
        path: the file; its folder is made, and the file replaced in one step.

    Returns:
        The path of the file.
    """
    highest = _highest(found)
    steps = _steps(found)
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
        top=_figure(highest),
        legend=[(name, *_look(order)) for order, name in enumerate(steps)] if len(steps) > 1 else [],
        cuts=[_cut(cut, order, steps, highest) for order, cut in enumerate(found["cuts"])],
        chapters=[Chapter([], sensitivity_tables(found))],
        notes=[],
    )


# ---------------------------------------------------------------------- tables


def _channels_table(found: Found) -> Table:
    steps = _steps(found)
    alone = steps if len(steps) > 1 else []
    rows, highest = [], _highest(found)
    for cut in found["cuts"]:
        features = "x".join(map(str, cut["features"]))
        if cut["sensitivity"] is None:
            rows.append([cut["cut"], features, "", *[UNKNOWN] * (3 + len(alone))])
            continue
        medians = [_figure(float(np.median(cut["steps"][name]))) for name in alone]
        rows.append(
            [
                cut["cut"],
                features,
                _strip(cut["sensitivity"], highest),
                *map(_figure, _quantiles(cut["sensitivity"])),
                *medians,
            ]
        )
    reasons = dict.fromkeys(cut["reason"] for cut in found["cuts"] if cut["reason"])
    measured = (
        f"{METRICS[found['metric']]}; 0: a channel moves with the image. 10 % of the channels are above the first "
        "number, half above the median, 90 % above the last"
    )
    apart = "; behind them the median where two views differ in that step alone" if alone else ""
    nothing = "".join(f"; {UNKNOWN}: nothing can be derived, since {reason}" for reason in reasons)
    drawn = any(cut["sensitivity"] is not None for cut in found["cuts"])
    return Table(
        title="How far channels are from what can be derived",
        header=["cut", "features", "channels", "10 %", "median", "90 %", *map(_short, alone)],
        rows=rows,
        note=(measured + apart + nothing) if drawn else nothing.removeprefix("; "),
    )


def _bytes_table(found: Found) -> Table:
    cuts = found["cuts"]
    # A share at which every cut stores all channels is the base view once more.
    parts = [n for n, _ in enumerate(_shares(found)) if any(_is_part(cut, cut["further"][n]) for cut in cuts)]
    behind = (
        "; in per cent: a further view that stores this share of the channels, the most sensitive ones (one at least; "
        "all of them, as the base view does, above three quarters and where nothing can be derived)"
    )
    return Table(
        title="What would be stored of each image",
        header=["cut", "codec", "fp32", "base view", *(_percent(_shares(found)[n]) for n in parts)],
        rows=[
            [
                cut["cut"],
                cut["codec"],
                format_bytes(cut["dense_bytes_per_sample"]),
                format_bytes(cut["base_bytes_per_sample"]),
                *(format_bytes(cut["further"][n]["bytes_per_sample"]) for n in parts),
            ]
            for cut in cuts
        ],
        note=(
            f"codec: the ladder's strongest rung that harms the outputs by no more than {found['tolerance']:g} nats; "
            f"base view: all channels{behind if parts else '; every further view takes as much'}"
        ),
    )


def _shares(found: Found) -> list[float]:
    return [stored["share"] for cut in found["cuts"][:1] for stored in cut["further"]]


def _is_part(cut: Found, stored: Found) -> bool:
    """Whether something is left to be derived."""
    return cut["sensitivity"] is not None and len(stored["channels"]) < len(cut["sensitivity"])


def _strip(values: Sequence[float], highest: float, cells: int = 8) -> str:
    """The sorted values as a row of blocks, on the scale of all cuts."""
    ranks = (np.arange(cells) + 0.5) / cells
    heights = np.quantile(np.asarray(values), 1 - ranks) / (highest or 1)
    return "".join(BLOCKS[min(len(BLOCKS) - 1, int(height * len(BLOCKS)))] for height in heights)


def _quantiles(values: Sequence[float]) -> list[float]:
    """What 10 %, half and 90 % of the channels are above."""
    return [float(value) for value in np.quantile(np.asarray(values), (0.9, 0.5, 0.1))]


# ---------------------------------------------------------------------- page


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
    most, median, least = map(_figure, _quantiles(cut["sensitivity"]))
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
            (1.13, _percent(stored["share"]), INK),
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


# ---------------------------------------------------------------------- shared


def _steps(found: Found) -> list[str]:
    """The random steps that were measured alone, in the transform's order."""
    return list(dict.fromkeys(name for cut in found["cuts"] for name in cut["steps"]))


def _highest(found: Found) -> float:
    """The largest sensitivity of all: the pictures' common scale."""
    every = [cut["sensitivity"] for cut in found["cuts"] if cut["sensitivity"]]
    alone = [values for cut in found["cuts"] for values in cut["steps"].values()]
    return max((max(values) for values in [*every, *alone]), default=0.0)


def _look(order: int) -> tuple[int, int]:
    """Number of the colour and of the dash of a step; the first colour is that of the bars."""
    return 1 + order % (len(SERIES) - 1), order % len(DASHES)


def _short(name: str) -> str:
    return name.removeprefix("Random") or name


def _figure(value: float) -> str:
    """Three digits, small numbers included: `"0.143"`, `"0.0042"`, `"3.1e-05"`."""
    if value == 0:
        return "0"
    return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.2g}"


def _percent(share: float) -> str:
    return format_percent(share, 0 if round(100 * share, 6).is_integer() else 1)
