"""What the records say, as a summary for the terminal and as a page for the documentation."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .catalog import GROUPS
from .examine import ENOUGH, SEVERAL

__all__ = ["page", "summary"]

Record = dict[str, Any]

HEADER = (
    "group",
    "models",
    "traced",
    f"≥ {ENOUGH} cuts",
    f"fewer, provably ({SEVERAL} tensors: ≥ {ENOUGH})",
    "cuts found",
    "cuts tried",
    "cuts frozen",
    "refused later",
    "models exact in eval",
    "models exact in train",
    "other bits without gradients",
    "median seconds to find",
)

UNCOUNTED = ("not built", "own forward fails", "too large")


def summary(records: Sequence[Record]) -> str:
    """The table, and what failed, by reason."""
    return "\n".join([_row(HEADER), *map(_row, _rows(records)), "", *_grouped(records)])


def page(records: Sequence[Record]) -> str:
    """The page of the documentation."""
    records = sorted(records, key=lambda r: (list(GROUPS).index(r["group"]), r["model"]))
    versions = {f"{name} {number}" for record in records for name, number in record["versions"].items()}
    sources = {record["source"] for record in records}
    mixed = " Some records are of an earlier state of Hoarfrost than others." if len(sources) > 1 else ""
    parts = [
        "# The zoo",
        "`benchmarks/zoo.py` divides other people's models, checks the two parts against the whole, and writes this "
        f"page. Random weights, small inputs; {', '.join(sorted(versions))}.",
        "A model counts as exact if at each cut that was tried the parts gave what the model gives, bit for bit, on "
        "two batch sizes, and left the model as it was: in eval the outputs; in train, given the same features, "
        "the outputs, the buffers, and the gradients of the parameters that act behind the cut only. A prefix that "
        "records no gradients, as a frozen one, makes torch choose other kernels in some attention and recurrent "
        "layers: models with features of other bits then are counted in a column of their own (`prefix.rounding` "
        "tells the difference). The comparison is the script's own. Seconds are of one thread on a machine that others "
        "were using: an order of magnitude." + mixed,
        "A cut counts as frozen if a `Freezer` with its defaults, but that features are always stored, froze the model "
        "there behind an epoch of a few random samples, stored what crosses, and trained an epoch on it. What the "
        "constructor refuses is listed below; what it accepts and cannot freeze then is refused later.",
        "\n".join([_row(HEADER), "|" + "---|" * len(HEADER), *map(_row, _rows(records))]),
    ]
    parts += ["## What is not perfect", *_shortcomings(records)]
    uncounted = [_by_reason(records, status) for status in UNCOUNTED]
    if any(uncounted):
        parts += [
            "## Not counted",
            "Not built, failing in their own forward before Hoarfrost sees them, or too large for one process:",
            "\n".join(filter(None, uncounted)),
        ]
    parts += ["## Every model", *_full(records)]
    return "\n\n".join(parts) + "\n"


def _rows(records: Sequence[Record]) -> list[list[str]]:
    groups = {group: [r for r in records if r["group"] == group] for group in GROUPS}
    rows = [_counted(group, members) for group, members in groups.items() if members]
    return [*rows, _counted("**all**", records)]


def _counted(group: str, records: Sequence[Record]) -> list[str]:
    able = [r for r in records if r["status"] not in UNCOUNTED]
    done = [r for r in able if r["status"] == "done"]
    few = [r for r in done if r["cuts"] < ENOUGH]
    provable = [r for r in few if r["few"]["structural"]]
    rescued = sum(r["cuts_of_several"] >= ENOUGH for r in provable)
    cut = [r for r in done if _tried(r)]
    seconds = [r["find_seconds"] for r in done]
    return [
        group,
        str(len(able)),
        str(len(done)),
        str(len(done) - len(few)),
        f"{len(provable)} ({rescued})",
        str(sum(max(r["cuts"], r.get("cuts_of_several", 0)) for r in done)),
        str(sum(map(_tried, done))),
        str(sum(map(_frozen, done))),
        str(sum(failure["check"] == "freeze" for r in done for failure in r["failures"])),
        f"{sum(_exact(r, 'eval') for r in cut)} of {len(cut)}",
        f"{sum(_exact(r, 'train') for r in cut)} of {len(cut)}",
        str(sum(any(failure["check"] == "rounding" for failure in r["failures"]) for r in cut)),
        f"{statistics.median(seconds):.2f}" if seconds else "–",
    ]


def _tried(record: Record) -> int:
    return int(record["tested"] + record.get("tested_of_several", 0))


def _frozen(record: Record) -> int:
    return int(record.get("tested_frozen", 0) + record.get("tested_of_several_frozen", 0))


def _exact(record: Record, mode: str) -> bool:
    kinds = [kind for kind in ("tested", "tested_of_several") if kind in record]
    left_alone = all(failure["check"] != "find" for failure in record["failures"])
    return left_alone and all(record[f"{kind}_exact_in_{mode}"] == record[kind] for kind in kinds)


def _verdict(record: Record, mode: str) -> str:
    return "–" if not _tried(record) else "yes" if _exact(record, mode) else "no"


def _shortcomings(records: Sequence[Record]) -> Iterable[str]:
    failures = _grouped(records)
    if failures:
        listed = "\n".join(f"- {line}" for line in failures)
        yield (
            "Cuts where the parts differ from the whole, cannot be made, or are not frozen, with the first of each "
            f"kind:\n\n{listed}"
        )
    else:
        yield "No cut that was tried broke the law, or was refused."
    for status, title in (
        ("not traced", "Models that `find_cuts` refuses:"),
        ("no end", "Models that did not end within the limits:"),
    ):
        text = _by_reason(records, status)
        if text:
            yield f"{title}\n\n{text}"
    few = [r for r in records if r["status"] == "done" and r["cuts"] < ENOUGH]
    for structural, title in (
        (False, f"Fewer than {ENOUGH} cuts, for a reason that lies in how the model is written:"),
        (
            True,
            f"Fewer than {ENOUGH} cuts, provably: at the end of every other module more than one tensor must cross:",
        ),
    ):
        lines = [_few(record) for record in few if record["few"]["structural"] is structural]
        if lines:
            yield f"{title}\n\n" + "\n".join(lines)


def _few(record: Record) -> str:
    rules = (_stripped(reason).partition(":")[0].partition(" (in ")[0] for reason in record["few"]["reasons"].values())
    why = "; ".join(sorted(set(rules) - {"a cut"}))
    return f"- `{_label(record)}`: {record['cuts']}, with up to {SEVERAL} tensors {record['cuts_of_several']}: {why}"


def _by_reason(records: Sequence[Record], status: str) -> str:
    found = defaultdict(list)
    for record in records:
        if record["status"] == status:
            found[_stripped(record["reason"])].append(f"`{_label(record)}`")
    return "\n".join(f"- {reason}: {', '.join(names)}" for reason, names in found.items())


def _grouped(records: Sequence[Record]) -> list[str]:
    """What failed, alike reasons together, the most frequent first; each with the first reason in full."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for record in records:
        for failure in record["failures"]:
            place = f"`{_label(record)}` at `{failure['cut']}`" if failure["cut"] else f"`{_label(record)}`"
            found[f"{failure['check']}: {_stripped(failure['reason'])}"].append((place, failure["reason"]))
    lines = []
    for kind, places in sorted(found.items(), key=lambda item: -len(item[1])):
        named = ", ".join(dict.fromkeys(place for place, _ in places[:4]))
        lines.append(
            f"{kind.partition(':')[0]}, {len(places)}: {_shown(places[0][1])} ({named}{', …' * (len(places) > 4)})"
        )
    return lines


def _shown(reason: str) -> str:
    """Text that a table or a page takes as text."""
    return reason.replace("|", "/").replace("<", "‹").replace(">", "›").rstrip(":")


def _stripped(reason: str) -> str:
    """A reason without its names and numbers, so that like ones meet."""
    rules: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        (r"(?<!\w)'[^']*'", "'…'"),
        (r"\[[^\]]*\]", "[…]"),
        (r"(?<![A-Za-z_])[-+]?\d[\d.]*(e[-+]?\d+)?", "#"),
    ]
    for pattern, replacement in rules:
        reason = re.sub(pattern, replacement, reason)
    return _shown(reason)


def _full(records: Sequence[Record]) -> Iterable[str]:
    for group in GROUPS:
        done = [r for r in records if r["group"] == group and r["status"] == "done"]
        if done:
            header = (
                *("model", "cuts", "recommended", "seconds to find", "tried", "frozen"),
                *("exact in eval", "exact in train"),
            )
            rows = [
                (
                    f"`{r['model']}`",
                    str(r["cuts"]),
                    str(r["recommended"]),
                    f"{r['find_seconds']:.2f}",
                    str(_tried(r)),
                    str(_frozen(r)),
                    *(_verdict(r, mode) for mode in ("eval", "train")),
                )
                for r in done
            ]
            table = "\n".join([_row(header), "|" + "---|" * len(header), *map(_row, rows)])
            yield f'<details markdown="1"><summary>{group}: {len(done)} models</summary>\n\n{table}\n\n</details>'


def _label(record: Record) -> str:
    return f"{record['group']}/{record['model']}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
