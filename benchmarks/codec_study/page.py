"""Records as the documentation's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]

HEAD = """<!-- figures: codecs.json -->
# Codecs, measured

`benchmarks/codecs.py` writes this page; its header says on what and how each figure is measured. Speed is given as GB/s
of the features in fp32, by one thread and its own processor seconds: the median of {repeats} repeats, with the least
and the largest. ZFP and SZ3 stand here for comparison only: `pip install 'hoarfrost[compare]'`.

{note}
"""

BEST = """
<!-- figures: codecs.json -->
## The fewest bytes at KL <= {tolerance:g}

How many times fewer bytes than fp32, for each family at its strongest member within the tolerance, and GB/s that one
core decodes.

| model | cut | features | {families} |
|---|---|---|{rules}|
{rows}
"""

ALL = """
<!-- figures: codecs.json -->
## {model}, {cut} ({shape}, {samples} images)

| codec | below fp32 | KL | relative error | encode, GB/s | decode, GB/s |
|---|---|---|---|---|---|
{rows}
"""


def page(told: dict[str, Any], records: Sequence[Record]) -> str:
    records = [record for record in records if record["of"] is None]
    families = list(dict.fromkeys(map(_family, records)))
    cuts = list(dict.fromkeys((record["model"], record["cut"]) for record in records))
    grouped = {place: [r for r in records if (r["model"], r["cut"]) == place] for place in cuts}
    best = BEST.format(
        tolerance=told["tolerance"],
        families=" | ".join(families),
        rules="|".join("---" for _ in families),
        rows="\n".join(_best_row(found, families) for found in grouped.values()),
    )
    return HEAD.format(**told) + best + "".join(_all(found) for found in grouped.values())


def _best_row(found: Sequence[Record], families: Sequence[str]) -> str:
    cells = []
    for family in families:
        kept = [r for r in found if _family(r) == family and r["within"]]
        top = max(kept, key=lambda r: r["below_fp32"], default=None)
        cells.append("–" if top is None else f"{top['below_fp32']:.1f}x, {top['decode_gb_s'][0]:.1f}")
    first = found[0]
    return f"| {first['model']} | `{first['cut']}` | {_shape(first)} | " + " | ".join(cells) + " |"


def _all(found: Sequence[Record]) -> str:
    rows = []
    for record in found:
        values = [f"{value:.3g}" for value in record["codec"].values() if isinstance(value, int | float)]
        rows.append(
            f"| {' '.join([_family(record), *values])} | {record['below_fp32']:.2f}x | {record['kl']:.1e} "
            f"| {record['relative_error']:.2g} | {_speed(record['encode_gb_s'])} | {_speed(record['decode_gb_s'])} |"
        )
    return ALL.format(
        model=found[0]["model"],
        cut=found[0]["cut"],
        samples=found[0]["samples"],
        shape=_shape(found[0]),
        rows="\n".join(rows),
    )


def _family(record: Record) -> str:
    codec = record["codec"]
    return codec["name"] + (" weighted" if codec.get("finer") else " over 4 axes" if "tolerance" in codec else "")


def _speed(three: Sequence[float]) -> str:
    median, least, most = three
    return f"{median:.1f} ({least:.1f}–{most:.1f})"


def _shape(record: Record) -> str:
    return "x".join(map(str, record["shape"]))
