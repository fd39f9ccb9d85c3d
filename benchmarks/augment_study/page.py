"""The page: a table for each data set and model, and accuracy against bytes as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hoarfrost.report.style import CACHE, INK, MUTED, SERIES, calm, new_figure, to_svg

from .arms import ARMS
from .subjects import KINDS

__all__ = ["best", "page", "ratios"]

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


def page(records: Sequence[Record], plan: dict[str, int], path: Path) -> None:
    """Write the tables and the pictures for what was measured under `plan`."""
    mine = [record for record in records if record["plan"] == plan]
    cells = sorted({(record["data"], record["model"]) for record in mine})
    seeds = len({record["seed"] for record in mine})
    parts = [INTRODUCTION.format(**plan, seeds=seeds)]
    for data, model in cells:
        here = [record for record in mine if (record["data"], record["model"]) == (data, model)]
        name = f"{path.stem}-{data}-{model}.svg"
        picture = front(here)
        if picture is not None:
            (path.parent / name).write_text(picture)
        parts.append(f"## {TITLES[data]}, {TITLES[model]}\n\n{table(here)}\n")
        parts += [f"![accuracy under augmentation against stored bytes]({name})\n"] if picture is not None else []
    path.write_text("\n".join(parts))


def table(records: Sequence[Record]) -> str:
    """One row an arm, in the order of the list; differences to conventional freezing, seed by seed."""
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
            f"{ARMS[arm].passes(_epochs(next(iter(found.values())))):.3g}",
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


def _epochs(record: Record) -> int:
    """Epochs behind the freeze."""
    return KINDS[record["model"]].patience * (record["plan"]["epochs"] - record["plan"]["freeze"])


def _stored(record: Record) -> str:
    if not record["cache_bytes"]:
        return ""
    unit, _, count = str(record["codec"]).removesuffix(")").partition("(")[2].partition("=")
    codec = f"{count} {unit}" if count else str(record["codec"])
    kept = record["stored_channels"]
    return codec + (f", {len(kept)} of {record['channels']} channels" if kept and record["channels"] else "")


TITLES = {
    "fashion": "Fashion-MNIST",
    "photos": "Patches of photos",
    "resnet": "small ResNet",
    "vit": "small ViT",
}

INTRODUCTION = """# Augmentation, measured

`python benchmarks/augmentation.py` trains each model once for {freeze} of {epochs} epochs (the ViT for twice as many),
freezes its front, and lets every way of going on continue from that same state for the rest. {samples:,} training
images, batches of {batch_size}; tested on {tests:,} images as they are, and under one random flip and shift each. Δ is
taken seed by seed against conventional freezing, where the frozen part runs on freshly augmented images in every epoch.
Bytes are those on disk, as a multiple of one whole view at the whole bits that do no measured harm, with which all ways
but the default store; it has steps between whole bits, shared by all channels. Passes say how often the frozen part
runs over the data behind the freeze. Mean ± sample deviation over {seeds} seeds; in the pictures a line joins the ways
that store once and that no other beats at as few bytes.
"""
