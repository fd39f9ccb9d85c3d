"""Pictures of what one run stored at each freeze: each gives an SVG, or None where there is nothing to show."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from .format import format_bytes
from .records import Record, Run, codec_label, number, stored_channels
from .style import CACHE, INK, MUTED, PAPER, QUIET, WIDE, TextFormatter, calm, new_figure, to_svg

__all__ = ["rungs", "sensitivities"]


def sensitivities(run: Run) -> str | None:
    """For each freeze the channels by sensitivity; those stored for further views in blue."""
    freezes = [record for record in run.freezes if record.get("sensitivity")]
    if not freezes:
        return None
    columns = min(3, len(freezes))
    rows = math.ceil(len(freezes) / columns)
    figure, grid = new_figure(WIDE, 2.3 * rows, rows=rows, columns=columns, sharey=True)
    for axes in grid.flat[len(freezes) :]:
        axes.remove()
    for axes, record in zip(grid.flat, freezes, strict=False):
        values = np.nan_to_num(np.asarray(record["sensitivity"], dtype=float))
        chosen = stored_channels(record)
        order = np.argsort(-values, kind="stable")
        colours = [CACHE if int(channel) in chosen else MUTED for channel in order]
        axes.bar(np.arange(1, len(values) + 1), values[order], 1.0, color=colours, edgecolor=colours, linewidth=0.4)
        axes.set_xlim(0.5, len(values) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        share = f"{len(chosen)} of {len(values)} stored"
        calm(axes, x="channels, by rank", y=f"{record.get('cut', '')} · {share}")
    return to_svg(figure, f"sensitivity-{run.name}")


def rungs(run: Run) -> str | None:
    """For each freeze its ladder, gentle to strong: bytes of a sample, and harm on a log scale."""
    freezes = [record for record in run.freezes if record.get("rungs")]
    if not freezes:
        return None
    counts = [len(record["rungs"]) for record in freezes]
    height = 0.55 * len(freezes) + 0.24 * sum(counts) + 0.2
    figure, grid = new_figure(
        WIDE,
        height,
        rows=len(freezes),
        columns=2,
        gridspec_kw={"height_ratios": counts, "width_ratios": (3, 2)},
        sharex="col",
    )
    for row, record in zip(grid, freezes, strict=True):
        _ladder(row[0], row[1], record)
        row[0].set_title(str(record.get("cut", "")), loc="left", fontsize=9, color=INK)
        row[0].tick_params(labelbottom=False)
    grid[-1][1].set_xlabel("harm to the outputs, nats, log scale")
    grid[-1][0].set_xlabel("bytes of a stored sample")
    return to_svg(figure, f"rungs-{run.name}")


def _ladder(sizes: Axes, harms: Axes, record: Record) -> None:
    ladder = record["rungs"]
    places = np.arange(len(ladder))[::-1]
    labels = [codec_label(rung.get("codec")) for rung in ladder]
    colours = [CACHE if rung.get("chosen") else MUTED for rung in ladder]
    sizes_of = [number(rung, "bytes_per_sample") or 0.0 for rung in ladder]
    sizes.barh(places, sizes_of, 0.62, color=colours, linewidth=0)
    for place, size, rung in zip(places, sizes_of, ladder, strict=True):
        weight = "bold" if rung.get("chosen") else "normal"
        sizes.annotate(
            format_bytes(size or None),
            (size, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK if rung.get("chosen") else QUIET,
            weight=weight,
        )
    kls = [number(rung, "kl") for rung in ladder]
    positive = [kl for kl in kls if kl is not None and kl > 0]
    least = min(positive, default=1e-6)
    harms.set_xscale("log")
    harms.xaxis.set_major_locator(LogLocator(numticks=8))
    harms.xaxis.set_minor_locator(NullLocator())
    harms.xaxis.set_major_formatter(TextFormatter(_power_of_ten))
    for place, kl, colour in zip(places, kls, colours, strict=True):
        if kl is None:
            continue
        exact = kl <= 0
        x = least / 10 if exact else kl
        harms.plot([x], [place], "o", markersize=5.5, color=colour, markerfacecolor=PAPER if exact else colour)
        if exact:
            harms.annotate("0", (x, place), (6, 0), textcoords="offset points", va="center", fontsize=9, color=QUIET)
    for axes in (sizes, harms):
        axes.set_ylim(-0.6, len(ladder) - 0.4)
        axes.set_yticks(places, labels if axes is sizes else [""] * len(ladder))
        axes.spines["bottom"].set_visible(False)
    sizes.margins(x=0.2)
    harms.grid(True, axis="both")


def _power_of_ten(value: float) -> str:
    exponent = str(round(math.log10(value)))
    return "10" + exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
