"""The page: a table for each data set and model, and accuracy against bytes as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hoarfrost.report.style import CACHE, INK, MUTED, calm, new_figure, to_svg

from .arms import ARMS

__all__ = ["page"]

Record = dict[str, Any]
CONVENTIONAL, DEFAULT = "conventional freezing, live augmentation", "Hoarfrost's default"
HEADER = ("way of going on", "plain, %", "augmented, %", "Δ plain", "Δ augmented", "bytes / base view", "at")


def page(records: Sequence[Record], plan: dict[str, int], path: Path) -> None:
    """Write the tables and the pictures for what was measured under `plan`."""
    mine = [record for record in records if record["plan"] == plan]
    cells = sorted({(record["data"], record["model"]) for record in mine})
    parts = [INTRODUCTION.format(**plan, live=plan["epochs"] - plan["freeze"])]
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
            f"{arm} ({len(found)} seeds)" if len(found) != len(rival) else arm,
            column(lambda record: record["accuracy"]),
            column(lambda record: record["augmented_accuracy"]),
            change("accuracy"),
            change("augmented_accuracy"),
            spread(ratios(found.values())) if all(map(_ratio, found.values())) else "–",
            ", ".join(sorted({_stored(record) for record in found.values()} - {""})) or "–",
        ]
        lines.append(f"| {' | '.join(f'**{cell}**' if arm == DEFAULT else cell for cell in cells)} |")
    return "\n".join(lines)


def front(records: Sequence[Record]) -> str | None:
    """Accuracy under augmentation against bytes, each arm a point; the default stands out."""
    points = []
    for arm in ARMS:
        found = [record for record in records if record["arm"] == arm and _ratio(record)]
        if found:
            accuracy = statistics.mean(100 * record["augmented_accuracy"] for record in found)
            points.append((arm, statistics.mean(ratios(found)), accuracy))
    live = [100 * record["augmented_accuracy"] for record in records if record["arm"] == CONVENTIONAL]
    if not points or not live:
        return None
    figure, grid = new_figure(9.4, 4.6)
    axes = grid[0][0]
    axes.axhline(statistics.mean(live), color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
    axes.annotate("live augmentation", (points[-1][1], statistics.mean(live)), color=MUTED, fontsize=8, va="bottom")
    for arm, ratio, accuracy in points:
        strong = arm == DEFAULT
        axes.plot(ratio, accuracy, "o", color=CACHE, markersize=8 if strong else 4.5)
        axes.annotate(
            arm,
            (ratio, accuracy),
            xytext=(6, -3),
            textcoords="offset points",
            fontsize=8 if strong else 6.5,
            weight="bold" if strong else "normal",
            color=INK,
        )
    calm(axes, x="stored bytes, as a multiple of the base view's")
    return to_svg(figure, "accuracy-bytes")


def spread(values: Sequence[float], signed: bool = False) -> str:
    """Mean and sample deviation."""
    if not values:
        return "–"
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{'+' if signed else ''}.2f} ± {deviation:.2f}"


def ratios(records: Any) -> list[float]:
    return [ratio for ratio in map(_ratio, records) if ratio is not None]


def _ratio(record: Record) -> float | None:
    """Bytes on disk as a multiple of what the base view alone takes at the same rung."""
    if not record["cache_bytes"] or not record["base_bytes"]:
        return None
    return float(record["cache_bytes"]) / float(record["base_bytes"])


def _stored(record: Record) -> str:
    if not record["cache_bytes"]:
        return ""
    codec = str(record["codec"]).replace("Linear(bits=", "").replace(")", " bits")
    kept = record["stored_channels"]
    return codec + (f", {len(kept)} of {record['channels']} channels" if kept and record["channels"] else "")


TITLES = {
    "fashion": "Fashion-MNIST",
    "photos": "Patches of photos",
    "resnet": "small ResNet",
    "vit": "small ViT",
}

INTRODUCTION = """# Augmentation, measured

`python benchmarks/augmentation.py` trains each model once for {freeze} of {epochs} epochs, freezes its front, and lets
every way of going on continue from that same state for the other {live}. {samples:,} training images, batches of
{batch_size}; tested on {tests:,} images as they are, and under one random flip and shift each. Δ is taken seed by seed
against conventional freezing, where the frozen part runs on freshly augmented images in every epoch. Bytes are those on
disk, as a multiple of the base view alone at the same number of bits. Mean ± sample deviation.
"""
