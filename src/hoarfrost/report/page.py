"""Put runs, tables and notes on one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..errors import ArgumentError
from ..untrusted import write_whole
from . import freeze_figures, run_figures
from .format import format_bytes, format_count, format_percent, format_seconds
from .records import Record, Run, number
from .style import SERIES
from .table import Table

__all__ = ["Chapter", "write_page", "write_report"]

DETAILS = ("freezes", "turns", "heals", "faults")
"""What a run needs one of, to have a section of its own."""


@dataclass(frozen=True)
class Chapter:
    """Runs that are compared with one another.

    Args:
        runs: one for `hoarfrost train`, several to compare. Accuracies in records are shares between 0 and 1.
        tables: shown first.
        title: stands above them, where a page has several chapters.

    Raises:
        ArgumentError: no runs and no tables, or two runs of one name.
    """

    runs: Sequence[Run]
    tables: Sequence[Table] = ()
    title: str = ""

    def __post_init__(self) -> None:
        names = [run.name for run in self.runs]
        if not self.runs and not self.tables:
            raise ArgumentError("a report needs at least one run or table")
        if len(set(names)) < len(names):
            raise ArgumentError(f"runs in a report need names of their own, got {', '.join(names)}")


def write_report(
    path: str | Path, *, title: str, chapters: Sequence[Chapter], lead: str = "", notes: str | Sequence[str] = ()
) -> Path:
    """Write one HTML file with tables and pictures: no network, no scripts, light and dark, printable.

    Args:
        path: the file; its folder is made, and the file replaced in one step.
        title: heading of the page.
        chapters: one, or several that have nothing to do with each other.
        lead: a sentence below the title.
        notes: paragraphs at the end.

    Returns:
        The path of the file.
    """
    runs = [run for chapter in chapters for run in chapter.runs]
    return write_page(
        Path(path),
        "report.html.jinja",
        title=title,
        facts=_facts(runs[0]) if len(runs) == 1 else [],
        origin=_origin(runs),
        chapters=chapters,
        lead=lead,
        notes=[notes] if isinstance(notes, str) else list(notes),
    )


def write_page(path: Path, template: str, *, chapters: Sequence[Chapter], **values: Any) -> Path:
    """Fill a template of this folder and write it to `path` in one step; the path."""
    values["chapters"] = [_shown(chapter) for chapter in chapters]
    environment = Environment(
        loader=PackageLoader("hoarfrost", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, environment.get_template(template).render(**values).encode())
    return path


def _shown(chapter: Chapter) -> dict[str, Any]:
    runs, strong = chapter.runs, _emphasised(chapter.tables)
    legend = run_figures.looks(runs, strong)
    return {
        "title": chapter.title,
        "tables": chapter.tables,
        "legend": [(run.name, order % len(SERIES), order // len(SERIES) % 3) for order, run in legend],
        "pictures": _pictures(runs, strong),
        "bands": _safe(run_figures.bands(runs)),
        "details": [detail for detail in map(_detail, runs) if any(detail[part] for part in DETAILS)],
    }


def _pictures(runs: Sequence[Run], strong: frozenset[str]) -> list[tuple[str, Markup, str]]:
    """Title, picture and caption of those that have something to show."""
    frozen = any(run.freezes for run in runs)
    diamonds = " Diamonds: layers were frozen before this epoch." if frozen else ""
    stalks = " Stalks: a cache was built before it." if frozen else ""
    candidates = [
        (
            "Test accuracy over time",
            run_figures.accuracy_over_time(runs, strong),
            "Time counts training and all that freezes take, not evaluation. Early epochs may lie below." + diamonds,
        ),
        (
            "Test accuracy by epoch",
            run_figures.accuracy_by_epoch(runs, strong),
            "The same epochs, whatever they cost." + diamonds,
        ),
        ("Time of an epoch", run_figures.seconds_by_epoch(runs, strong), "Training only." + stalks),
    ]
    return [(title, Markup(svg), caption) for title, svg, caption in candidates if svg is not None]


def _emphasised(tables: Iterable[Table]) -> frozenset[str]:
    """Names in the emphasised rows: runs of these names are drawn stronger."""
    return frozenset(t.rows[t.emphasis][0] for t in tables if t.emphasis is not None and t.header)


def _detail(run: Run) -> dict[str, Any]:
    """What one run has to show of its own."""
    return {
        "name": run.name,
        "freezes": [_freeze_row(record) for record in run.freezes],
        "sensitivity": _safe(freeze_figures.sensitivities(run)),
        "rungs": _safe(freeze_figures.rungs(run)),
        "turns": [_turn_row(record) for record in run.turns],
        "heals": [
            (str(record.get("chunk", "")), str(record.get("view", "")), str(record.get("reason", "")))
            for record in run.heals
        ],
        "faults": _faults(run),
    }


def _freeze_row(record: Record) -> dict[str, str]:
    stored, dense = number(record, "cache_bytes"), number(record, "dense_bytes")
    ratio = f" ({dense / stored:.1f}x below fp32)" if stored and dense else ""
    return {
        "epoch": str(int(record["epoch"]) + 1),
        "cut": str(record.get("cut", "")),
        "choice": {"cache": "read", "recompute": "recompute"}.get(str(record.get("choice")), ""),
        "read": format_seconds(number(record, "read_seconds")),
        "prefix": format_seconds(number(record, "prefix_seconds")),
        "build": format_seconds(number(record, "build_seconds")),
        "stored": format_bytes(stored) + ratio,
        "decision": str(record.get("decision") or ""),
    }


def _turn_row(record: Record) -> tuple[str, str, str]:
    """Where, what, and who wanted it."""
    step, epoch, cut = record["step"], record["epoch"] + 1, record.get("cut")
    what = {
        "decision": str(record.get("why", "")),
        "midway": f"frozen up to {cut}, recomputed until the epoch ends",
        "thaw": f"thawed, which was frozen up to {cut}",
        "changed": f"somebody wrote into what is frozen up to {cut}: its features are built anew",
        "stale": f"{record.get('why', 'samples are others')}: the features up to {cut} are built anew",
    }[record["event"]]
    return f"{epoch}, behind step {step}" if step else str(epoch), what, str(record.get("policy", ""))


def _faults(run: Run) -> list[tuple[str, str]]:
    """What happened to caches and samples, and what was done instead."""
    found = [(str(record.get("reason", "")), str(record.get("instead", ""))) for record in run.faults]
    if run.unreadable:
        first, count = run.unreadable[0], len(run.unreadable)
        more = f", and {count - 1} more" if count > 1 else ""
        done = {"skip": "left out", "replace": "the next one that can be read stands in"}
        found.append((f"{first.get('reason', 'a sample cannot be read')}{more}", done.get(str(first.get("then")), "")))
    return found


def _facts(run: Run) -> list[tuple[str, str]]:
    """The few numbers that a reader of a single run looks for first."""
    if not run.epochs:
        return []
    last, end = run.epochs[-1], run.end
    accuracy = number(end, "test_accuracy")
    stored = number(last, "cache_bytes")
    saved = number(last, "saved_seconds")
    flops = sum(number(record, "train_flops") or 0 for record in run.epochs)
    facts = [
        (
            "accuracy on the test set",
            format_percent(number(last, "test_accuracy") if accuracy is None else accuracy),
        ),
        ("on augmented test images", format_percent(number(end, "augmented_accuracy"))),
        ("training time", format_seconds(number(end, "seconds") or run.elapsed_seconds[-1])),
        ("saved by the cache", format_seconds(saved) if saved else "–"),
        ("stored features", format_bytes(stored) if stored else "–"),
        ("training FLOPs", format_count(flops) if flops else "–"),
    ]
    return [(name, value) for name, value in facts if value != "–"]


def _origin(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """What the runs share, as far as they do: model, data, machine."""
    starts = [run.start for run in runs if run.start]
    if not starts:
        return []
    keys = ["model", "data", "samples", "epochs", "seed", "policy", "mode", "hardware", "versions"]
    shared = [(key, starts[0].get(key)) for key in keys if all(s.get(key) == starts[0].get(key) for s in starts)]
    return [(key, _text(value)) for key, value in shared if value not in (None, "", {}, [])]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_text(inner) for inner in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)


def _safe(svg: str | None) -> Markup | None:
    # Matplotlib has escaped what is written in the picture.
    return None if svg is None else Markup(svg)
