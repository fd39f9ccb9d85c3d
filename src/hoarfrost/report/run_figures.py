"""Pictures of runs side by side: each gives an SVG, or None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from .format import format_percent
from .records import Record, Run, number
from .style import (
    CACHE,
    DASHES,
    HALF,
    IMAGES,
    INK,
    PAPER,
    RECOMPUTE,
    SERIES,
    WIDE,
    TextFormatter,
    calm,
    new_figure,
    to_svg,
)

__all__ = ["accuracy_by_epoch", "accuracy_over_time", "bands", "looks", "seconds_by_epoch"]

SOURCES = {"images": RECOMPUTE, "recompute": RECOMPUTE, "cache": CACHE}


def looks(runs: Sequence[Run], strong: frozenset[str]) -> list[tuple[int, Run]]:
    """Each run with the number of its look: `strong` ones come first, so that they look alike in every chapter."""
    ranked = sorted(range(len(runs)), key=lambda place: runs[place].name not in strong)
    return [(ranked.index(place), run) for place, run in enumerate(runs)]


def accuracy_over_time(runs: Sequence[Run], strong: frozenset[str] = frozenset()) -> str | None:
    """Accuracy on the test set over seconds of training and freezing; diamonds where layers froze."""
    made = _accuracy(
        runs, strong, lambda run: dict(zip((r["epoch"] for r in run.epochs), run.elapsed_seconds, strict=True))
    )
    if made is None:
        return None
    figure, axes = made
    _time_ticks(axes.xaxis, axes.get_xlim()[1])
    axes.set_xlim(left=0)
    calm(axes, x="training and freezing")
    return to_svg(figure, "accuracy-time")


def accuracy_by_epoch(runs: Sequence[Run], strong: frozenset[str] = frozenset()) -> str | None:
    """Accuracy on the test set after each epoch; diamonds at the first frozen epoch of each depth."""
    made = _accuracy(runs, strong, lambda run: {record["epoch"]: record["epoch"] + 1.0 for record in run.epochs})
    if made is None:
        return None
    figure, axes = made
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    calm(axes, x="epoch")
    return to_svg(figure, "accuracy-epoch")


def seconds_by_epoch(runs: Sequence[Run], strong: frozenset[str] = frozenset()) -> str | None:
    """Training seconds of each epoch; a thin stalk adds the building of a cache in front of it."""
    figure, grid = new_figure(WIDE, 2.6)
    axes = grid[0][0]
    anything = False
    for order, run in looks(runs, strong):
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


def _accuracy(
    runs: Sequence[Run], strong: frozenset[str], places: Callable[[Run], dict[int, float]]
) -> tuple[Figure, Axes] | None:
    """Accuracy on the test set where `places` has each epoch, and where layers froze; None where none is known."""
    figure, grid = new_figure(HALF, 2.75)
    axes = grid[0][0]
    drawn = []
    for order, run in looks(runs, strong):
        at = places(run)
        points = [(at[epoch], value) for epoch, value in _accuracies(run)]
        frozen = [(at[record["epoch"]], value) for record, value in _at_freezes(run)]
        _draw(axes, _look(order, run.name in strong), points, frozen)
        drawn.append([value for _, value in points])
    if not any(drawn):
        return None
    _focus(axes, drawn)
    return figure, axes


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
