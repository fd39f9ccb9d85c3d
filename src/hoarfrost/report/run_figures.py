"""The pictures of a report: each gives an SVG, or None where there is nothing to show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

from .format import format_bytes, format_percent
from .records import Record, Run, codec_label, number, stored_channels
from .style import CACHE, IMAGES, INK, MUTED, PAPER, QUIET, RECOMPUTE, SERIES, TextFormatter, calm, new_figure, to_svg

__all__ = ["accuracy_by_epoch", "accuracy_over_time", "bands", "rungs", "seconds_by_epoch", "sensitivities"]

WIDE, HALF = 9.4, 4.3
DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1.2, 1.6)))
SOURCES = {"images": RECOMPUTE, "recompute": RECOMPUTE, "cache": CACHE}


def accuracy_over_time(runs: Sequence[Run], strong: frozenset[str] = frozenset()) -> str | None:
    """Accuracy on the test set over seconds of training and cache building; diamonds where layers froze."""
    figure, grid = new_figure(HALF, 2.75)
    axes = grid[0][0]
    drawn = []
    for order, run in enumerate(runs):
        times = dict(zip((record["epoch"] for record in run.epochs), run.elapsed_seconds, strict=True))
        points = [(times[epoch], value) for epoch, value in _accuracies(run)]
        frozen = [(times[record["epoch"]], value) for record, value in _at_freezes(run)]
        _draw(axes, _look(order, run.name in strong), points, frozen)
        drawn.append([value for _, value in points])
    if not any(drawn):
        return None
    _focus(axes, drawn)
    _time_ticks(axes.xaxis, axes.get_xlim()[1])
    axes.set_xlim(left=0)
    calm(axes, x="training and building of caches")
    return to_svg(figure, "accuracy-time")


def accuracy_by_epoch(runs: Sequence[Run], strong: frozenset[str] = frozenset()) -> str | None:
    """Accuracy on the test set after each epoch; diamonds at the first frozen epoch of each depth."""
    figure, grid = new_figure(HALF, 2.75)
    axes = grid[0][0]
    drawn = []
    for order, run in enumerate(runs):
        points = [(epoch + 1.0, value) for epoch, value in _accuracies(run)]
        frozen = [(record["epoch"] + 1.0, value) for record, value in _at_freezes(run)]
        _draw(axes, _look(order, run.name in strong), points, frozen)
        drawn.append([value for _, value in points])
    if not any(drawn):
        return None
    _focus(axes, drawn)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    calm(axes, x="epoch")
    return to_svg(figure, "accuracy-epoch")


def seconds_by_epoch(runs: Sequence[Run], strong: frozenset[str] = frozenset()) -> str | None:
    """Training seconds of each epoch; a thin stalk adds the building of a cache in front of it."""
    figure, grid = new_figure(WIDE, 2.6)
    axes = grid[0][0]
    anything = False
    for order, run in enumerate(runs):
        points = [
            (record["epoch"] + 1, value) for record in run.epochs if (value := number(record, "seconds")) is not None
        ]
        if not points:
            continue
        anything = True
        look = _look(order, run.name in strong)
        epochs, seconds = zip(*points, strict=True)
        axes.plot(epochs, seconds, marker=".", markersize=4, **look)
        heights = dict(points)
        for record in run.freezes:
            build, base = number(record, "build_seconds"), heights.get(record["epoch"] + 1)
            if build and base is not None:
                x = record["epoch"] + 1
                axes.plot([x, x], [base, base + build], color=look["color"], linewidth=1)
                axes.plot([x], [base + build], marker="_", markersize=7, color=look["color"])
    if not anything:
        return None
    axes.set_ylim(bottom=0)
    _time_ticks(axes.yaxis, axes.get_ylim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    calm(axes, x="epoch")
    return to_svg(figure, "seconds-epoch")


def bands(runs: Sequence[Run]) -> str | None:
    """What was frozen when: a band for each run, depth upward, coloured by where its features came from."""
    shown = [run for run in runs if run.epochs]
    if not shown:
        return None
    longest = max(run.epochs[-1]["epoch"] for run in shown) + 1
    figure, grid = new_figure(WIDE, 0.45 + 0.62 * len(shown), rows=len(shown), sharex=True)
    for axes, run in zip(grid[:, 0], shown, strict=True):
        total = run.depths
        for first, last, depth, source in _stretches(run):
            share = min(depth, total) / total
            left, width = first + 0.5, last - first + 1
            axes.bar(left, 1 - share, width, bottom=share, align="edge", color=IMAGES, linewidth=0)
            axes.bar(left, share, width, align="edge", color=SOURCES.get(source, RECOMPUTE), linewidth=0)
        _name_cuts(axes, run)
        axes.set_ylim(0, 1)
        axes.set_xlim(0.5, longest + 0.5)
        axes.yaxis.set_major_locator(NullLocator())
        axes.spines["bottom"].set_visible(False)
        axes.set_title(run.name, loc="left", fontsize=9, color=INK, pad=3)
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.tick_params(labelbottom=axes is grid[-1, 0])
    grid[-1, 0].set_xlabel("epoch")
    return to_svg(figure, "bands")


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
    """For each freeze its ladder, gentle to strong: bytes of a sample, and harm (KL) on a log scale."""
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
    grid[-1][1].set_xlabel("divergence of the outputs (KL), log scale")
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


def _stretches(run: Run) -> list[tuple[int, int, int, str]]:
    """First epoch, last epoch, depth and source of each stretch of epochs that are alike."""
    stretches: list[tuple[int, int, int, str]] = []
    for record in run.epochs:
        epoch, depth, source = record["epoch"], record.get("depth") or 0, str(record.get("source"))
        if stretches and stretches[-1][1:] == (epoch - 1, depth, source):
            stretches[-1] = (stretches[-1][0], epoch, depth, source)
        else:
            stretches.append((epoch, epoch, depth, source))
    return stretches


def _name_cuts(axes: Axes, run: Run) -> None:
    """The name of each frozen depth, where it begins, if there is room before the next."""
    known, shown = None, []
    for record in run.epochs:
        if (record.get("depth") or 0) != known:
            known = record.get("depth") or 0
            shown.append((record["epoch"], known, record.get("cut")))
    for epoch, depth, cut in shown:
        if depth and cut:
            axes.text(epoch + 0.62, 0.09, str(cut), color=PAPER, fontsize=9, va="bottom", clip_on=True)


def _look(order: int, strong: bool) -> dict[str, Any]:
    return {
        "color": SERIES[order % len(SERIES)],
        "linestyle": DASHES[order // len(SERIES) % len(DASHES)],
        "linewidth": 2.6 if strong else 1.5,
        "zorder": 4 if strong else 3,
    }


def _accuracies(run: Run) -> list[tuple[int, float]]:
    return [(record["epoch"], value) for record in run.epochs if (value := number(record, "test_accuracy")) is not None]


def _at_freezes(run: Run) -> list[tuple[Record, float]]:
    """Each freeze with the accuracy after the epoch that began with it."""
    values = dict(_accuracies(run))
    return [(record, values[record["epoch"]]) for record in run.freezes if record["epoch"] in values]


def _draw(
    axes: Axes, look: dict[str, Any], points: list[tuple[float, float]], frozen: list[tuple[float, float]]
) -> None:
    if points:
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, marker="." if len(points) < 3 else None, **look)
    if frozen:
        xs, ys = zip(*frozen, strict=True)
        axes.plot(xs, ys, "D", markersize=5, color=look["color"], markeredgecolor=PAPER, zorder=5)


def _focus(axes: Axes, drawn: list[list[float]]) -> None:
    """Show where runs differ: after the first third of each, with the very first climb cut off."""
    late = [value for values in drawn for value in values[len(values) // 3 :]]
    low, high = min(late), max(max(values) for values in drawn if values)
    margin = max(0.02, 0.08 * (high - low))
    axes.set_ylim(max(0.0, low - margin), min(1.0, high + margin))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(TextFormatter(lambda value: format_percent(value, 0 if high - low > 0.06 else 1)))


def _time_ticks(axis: Axis, longest: float) -> None:
    """About five marks at round seconds, minutes or hours."""
    unit, name = next((u, n) for u, n in ((3600, "h"), (60, "min"), (1, "s")) if longest >= 2 * u or u == 1)
    steps = [1, 2, 2.5, 5, 10]
    marks = MaxNLocator(6, steps=steps).tick_values(0, longest / unit)
    axis.set_major_locator(FixedLocator([float(mark) * unit for mark in marks if mark * unit <= longest]))
    axis.set_major_formatter(TextFormatter(lambda value: f"{round(value / unit, 6):g} {name}" if value else "0"))


def _power_of_ten(value: float) -> str:
    exponent = str(round(math.log10(value)))
    return "10" + exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
