"""What the records say, as a summary for the terminal and as a page for the documentation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .catalog import GROUPS
from .counting import ENOUGH, SEVERAL, UNCOUNTED, exact, frozen, row, table, tried

__all__ = ["in_order", "page", "summary"]

Record = dict[str, Any]

MARK = "<!-- figures: zoo.json -->\n"


def summary(records: Sequence[Record]) -> str:
    """The table, and what failed, by reason."""
    return "\n".join([table(in_order(records)), "", *_grouped(records)])


def page(records: Sequence[Record]) -> str:
    """The page of the documentation."""
    records = in_order(records)
    versions = {f"{name} {number}" for record in records for name, number in record["versions"].items()}
    sources = {record["source"] for record in records}
    mixed = " Some records are of an earlier state of Hoarfrost than others." if len(sources) > 1 else ""
    parts = [
        f"{MARK}# The zoo",
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
        f"<!-- table: zoo -->\n{table(records)}\n<!-- /table -->",
    ]
    parts += [f"{MARK}## What is not perfect", *_shortcomings(records)]
    uncounted = [_by_reason(records, status) for status in UNCOUNTED]
    if any(uncounted):
        parts += [
            f"{MARK}## Not counted",
            "Not built, failing in their own forward before Hoarfrost sees them, or too large for one process:",
            "\n".join(filter(None, uncounted)),
        ]
    parts += [f"{MARK}## Every model", *_full(records)]
    return "\n\n".join(parts) + "\n"


def in_order(records: Iterable[Record]) -> list[Record]:
    """By group and name."""
    return sorted(records, key=lambda r: (list(GROUPS).index(r["group"]), r["model"]))


def _verdict(record: Record, mode: str) -> str:
    return "–" if not tried(record) else "yes" if exact(record, mode) else "no"


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
                    str(tried(r)),
                    str(frozen(r)),
                    *(_verdict(r, mode) for mode in ("eval", "train")),
                )
                for r in done
            ]
            listed = "\n".join([row(header), "|" + "---|" * len(header), *map(row, rows)])
            yield f'<details markdown="1"><summary>{group}: {len(done)} models</summary>\n\n{listed}\n\n</details>'


def _label(record: Record) -> str:
    return f"{record['group']}/{record['model']}"
