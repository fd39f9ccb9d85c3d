"""The results: a table for each data set and model, and accuracy against bytes as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from hoarfrost.report.style import CACHE, INK, MUTED, SERIES, calm, new_figure, to_svg

from .arms import ARMS
from .subjects import KINDS

__all__ = ["best", "pictures", "ratios", "record_of", "table"]

Record = dict[str, Any]
Point = tuple[str, float, float]
"""An arm, its bytes, its accuracy."""
CONVENTIONAL, DEFAULT = "conventional freezing, live augmentation", "Hoarfrost's default"
BASE = "1 view, whole"
HEADER = ("way of going on", "plain, %", "augmented, %", "Δ plain", "Δ augmented", "bytes / base view", "passes", "at")

PALETTE = """<style>
svg { --font: system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  --card: #ffffff; --ink: #1c2733; --quiet: #5d6b7a; --faint: #dfe5eb; --muted: #8593a0; --cache: #2b7fb0;
  --series-0: #2b7fb0; --series-1: #c2703d; --series-2: #4f8f5b; --series-3: #8a5fa8; --series-4: #b3475f;
  --series-5: #8a7a2f; --series-6: #3a8f93; background: var(--card) }
@media (prefers-color-scheme: dark) { svg {
  --card: #161e26; --ink: #e4eaf0; --quiet: #93a1af; --faint: #2a3641; --muted: #7b8895; --cache: #63b3e0;
  --series-0: #63b3e0; --series-1: #e39a68; --series-2: #7fc08b; --series-3: #bb95d6; --series-4: #e5839a;
  --series-5: #c9b765; --series-6: #6cc3c7 } }
</style>"""
"""The report's colours: a picture that stands in a file of its own does not inherit those of the page around it."""


KEPT = ("data", "model", "seed", "arm", "accuracy", "augmented_accuracy", "views", "cache_bytes", "codec", "channels")
"""What the results need of a run."""


def record_of(runs: Iterable[Record], plan: dict[str, int], note: str) -> dict[str, Any]:
    """What was measured under `plan`; of the channels that were stored of a further view, how many."""
    return {
        "note": note,
        "plan": plan,
        "runs": [
            {**{name: run[name] for name in KEPT}, "stored": len(run["stored_channels"] or [])}
            for run in runs
            if run["plan"] == plan
        ],
    }


def pictures(record: Any) -> Iterator[tuple[str, str]]:
    """By data set and model."""
    for data, model in sorted({(run["data"], run["model"]) for run in record["runs"]}):
        picture = front(_of(record, data, model))
        if picture is not None:
            yield f"{data}-{model}", picture


def _of(record: Any, data: str, model: str) -> list[Record]:
    return [run for run in record["runs"] if (run["data"], run["model"]) == (data, model)]


def table(record: Any, data: str, model: str) -> str:
    """One row an arm, in the order of the list; differences to conventional freezing, seed by seed."""
    records = _of(record, data, model)
    lines = [f"| {' | '.join(HEADER)} |", f"|{'---|' * len(HEADER)}"]
    for arm in ARMS:
        found = {record["seed"]: record for record in records if record["arm"] == arm}
        if not found:
            continue
        rival = {record["seed"]: record for record in records if record["arm"] == CONVENTIONAL}

        def column(value: Callable[[Record], float], found: dict[int, Record] = found) -> str:
            return spread([100 * value(record) for record in found.values()])

        def change(name: str, found: dict[int, Record] = found, rival: dict[int, Record] = rival) -> str:
            common = [100 * (found[seed][name] - rival[seed][name]) for seed in found if seed in rival]
            return spread(common, signed=True)

        cells = [
            f"{arm} ({len(found)} seed{'s' * (len(found) > 1)})" if len(found) != len(rival) else arm,
            column(lambda record: record["accuracy"]),
            column(lambda record: record["augmented_accuracy"]),
            change("accuracy"),
            change("augmented_accuracy"),
            spread(ratios(found.values(), records)),
            f"{ARMS[arm].passes(_epochs(model, record['plan']), next(iter(found.values()))['views']):.3g}",
            ", ".join(sorted({_stored(record) for record in found.values()} - {""})) or "–",
        ]
        lines.append(f"| {' | '.join(f'**{cell}**' if arm == DEFAULT else cell for cell in cells)} |")
    return "\n".join(lines)


def front(records: Sequence[Record]) -> str | None:
    """Accuracy under augmentation against bytes: each arm a point, the default and the best for their bytes named.

    What is drawn anew costs passes of the front beside its bytes: it is shown, and not on the line.
    """
    points: list[Point] = []
    for arm in ARMS:
        found = [record for record in records if record["arm"] == arm]
        bytes_used = ratios(found, records)
        if bytes_used:
            accuracy = statistics.mean(100 * record["augmented_accuracy"] for record in found)
            points.append((arm, statistics.mean(bytes_used), accuracy))
    live = [100 * record["augmented_accuracy"] for record in records if record["arm"] == CONVENTIONAL]
    if not points or not live:
        return None
    once = best([point for point in points if ARMS[point[0]].once])
    named = {point[0] for point in once} | {DEFAULT}
    figure, grid = new_figure(9.4, 4.8)
    axes = grid[0][0]
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.axhline(statistics.mean(live), color=MUTED, linewidth=1, linestyle=(0, (4, 2)), label="live augmentation")
    groups = list(dict.fromkeys(arm.group for arm in ARMS.values()))
    for group in groups:
        own = [(ratio, accuracy) for arm, ratio, accuracy in points if ARMS[arm].group == group and arm != DEFAULT]
        if own:
            axes.plot(*zip(*own, strict=True), "o", color=SERIES[groups.index(group)], markersize=5, label=group)
    front_line = sorted((ratio, accuracy) for _, ratio, accuracy in once)
    axes.plot(*zip(*front_line, strict=True), color=MUTED, linewidth=0.8, zorder=1)
    shown = sorted((point for point in points if point[0] in named), key=lambda point: point[1])
    for number, (arm, ratio, accuracy) in enumerate(shown, 1):
        if arm == DEFAULT:
            axes.plot(ratio, accuracy, "D", color=CACHE, markersize=8)
        # Every other number below its point: those on the front lie close together.
        place, style = (0, 7 if number % 2 else -13), {"fontsize": 8, "ha": "center", "color": INK}
        axes.annotate(str(number), (ratio, accuracy), xytext=place, textcoords="offset points", **style)
    names = [f"{number}  {arm}" for number, (arm, _, _) in enumerate(shown, 1)]
    axes.text(
        0.36, 0.03, "\n".join(names), transform=axes.transAxes, fontsize=8, color=INK, va="bottom", linespacing=1.4
    )
    axes.margins(x=0.1, y=0.1)
    axes.legend(loc="lower right", frameon=False, fontsize=8, labelcolor=INK)
    calm(axes, x="stored bytes, as a multiple of the base view alone", y="accuracy on augmented test images, %")
    return alone(to_svg(figure, "accuracy-bytes"))


def best(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats in accuracy at as few bytes or fewer."""
    return [
        point
        for point in points
        if not any(o[1] <= point[1] and o[2] >= point[2] and o[1:] != point[1:] for o in points)
    ]


def alone(svg: str) -> str:
    """An `<svg>` element for a page as a file: with its namespace, and with the colours that the page would give."""
    opening, rest = svg.split(">", 1)
    return opening.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1) + ">" + PALETTE + rest


def spread(values: Sequence[float], signed: bool = False) -> str:
    """Mean and sample deviation; of one value, the value alone."""
    if not values:
        return "–"
    mean = f"{statistics.mean(values):{'+' if signed else ''}.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def ratios(found: Iterable[Record], records: Sequence[Record]) -> list[float]:
    """Bytes on disk as a multiple of the base view alone, seed by seed; none where an arm stores nothing.

    One yardstick for all arms, on disk too: measured against a base view at an arm's own number of bits, 2 bits would
    seem to take as much as 8.
    """
    base = {record["seed"]: record["cache_bytes"] for record in records if record["arm"] == BASE}
    return [
        record["cache_bytes"] / base[record["seed"]]
        for record in found
        if record["cache_bytes"] and base.get(record["seed"])
    ]


def _epochs(model: str, plan: dict[str, int]) -> int:
    """Epochs behind the freeze."""
    return KINDS[model].patience * (plan["epochs"] - plan["freeze"])


def _stored(record: Record) -> str:
    if not record["cache_bytes"]:
        return ""
    unit, _, count = str(record["codec"]).removesuffix(")").partition("(")[2].partition("=")
    codec = f"{count} {unit}" if count else str(record["codec"])
    stored, channels = record["stored"], record["channels"]
    return codec + (f", {stored} of {channels} channels" if stored and channels else "")
