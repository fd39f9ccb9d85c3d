"""Tables of what codecs do to features, and what harm is measured by."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from markdown_tables import moved, spread, table

FAMILIES: dict[str, Callable[[Any], bool]] = {
    "zfp over 4 axes": lambda codec: "tolerance" in codec,
    "SZ3": lambda codec: codec["name"] == "sz3",
    "our levels": lambda codec: codec["name"] == "shared" and not codec.get("finer"),
}


def cuts(record: Any) -> Iterator[tuple[str, str, list[Any]]]:
    """Model, cut and the codecs measured there, from the front."""
    for place in dict.fromkeys((one["model"], one["cut"]) for one in record["records"]):
        yield *place, [one for one in record["records"] if (one["model"], one["cut"]) == place]


def said(one: Any) -> str:
    """Bits a value, and harm."""
    return f"{32 / one['below_fp32']:.2f}, {one['kl']:.0e}"


def strongest(measured: Sequence[Any], family: str) -> Any:
    mine = [one for one in measured if one["of"] is None and one["within"] and FAMILIES[family](one["codec"])]
    return max(mine, key=lambda one: one["below_fp32"])


def as_before(measured: Sequence[Any], family: str) -> Any:
    """With the setting of the model's first cut."""
    return next((one for one in measured if one["of"] and FAMILIES[family](one["codec"])), None)


def fixed(measured: Sequence[Any], tolerance: float) -> Any:
    return next(one for one in measured if one["of"] is None and one["codec"].get("tolerance") == tolerance)


def values(shape: Sequence[int]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def codec_depths(record: Any) -> str:
    """Each family at its strongest within the tolerance: bits a value, harm, and how many times fewer bytes that is
    than with the setting that the model's first cut bears."""
    rows = []
    for model, cut, measured in cuts(record):
        count = values(measured[0]["shape"])
        row = [model, f"`{cut.rpartition('encoder_')[2]}`", f"{count:,}", said(fixed(measured, 100.0))]
        for family in FAMILIES:
            gain = fewer(measured, family)
            row.append(said(strongest(measured, family)) + ("" if gain is None else f" ({gain:.2f}x)"))
        rows.append([*row, f"{count * 4e-3 / strongest(measured, 'our levels')['below_fp32']:.1f}"])
    heads = [f"{family}, within {record['told']['tolerance']:g}" for family in FAMILIES]
    return table(["model", "cut", "values", "zfp over 4 axes, tolerance 100", *heads, "our levels, kB an image"], rows)


def fewer(measured: Sequence[Any], family: str) -> float | None:
    """Times fewer bytes by the setting that was chosen here than by that of the model's first cut."""
    before = as_before(measured, family)
    return None if before is None else float(strongest(measured, family)["below_fp32"] / before["below_fp32"])


def codecs_derived(record: Any) -> list[float]:
    """At each cut, of each other family at its strongest within the tolerance to our levels: ratios of bytes and of
    decoding, and by how much the bytes are fewer."""
    found: list[float] = []
    for _, _, measured in cuts(record):
        kept = [one for one in measured if one["of"] is None and one["within"]]
        of = {(one["codec"]["name"], bool(one["codec"].get("finer"))): one for one in kept}  # the last is the strongest
        ours = of.pop(("shared", False))
        zfp = strongest(measured, "zfp over 4 axes")
        for one in (*of.values(), zfp):
            ratio = one["below_fp32"] / ours["below_fp32"]
            found += [ratio, 1 / ratio, ratio - 1, one["decode_gb_s"][0] / ours["decode_gb_s"][0]]
    return found


def levels(records: Sequence[Any]) -> str:
    return " ".join(one["rung"].split("levels=")[-1].split(",")[0].rstrip(")") for one in records)


def ratios(one: Sequence[Any], other: Sequence[Any]) -> list[float]:
    return [a["loss"] / b["loss"] for a, b in zip(one, other, strict=True)]


def smaller(one: Sequence[Any], other: Sequence[Any]) -> list[float]:
    return [a["bytes_per_sample"] / b["bytes_per_sample"] for a, b in zip(one, other, strict=True)]


def harm_tasks(record: Any) -> str:
    records = [one for one in record["records"] if one["part"] == "tasks"]
    rows = []
    for name in dict.fromkeys(one["task"] for one in records):
        arms = {
            arm: [one for one in records if (one["task"], one["arm"]) == (name, arm)]
            for arm in ("exact", "auto", "softmax")
        }
        exact, auto, once = arms.values()
        rows.append(
            [
                name,
                auto[0]["judged"],
                *(spread([one["loss"] for one in arm], 4) for arm in (exact, auto)),
                spread(ratios(auto, exact), 3),
                levels(auto),
                f"{statistics.mean(one['harm'] for one in auto):.1e}",
                f"{levels(once)}, {spread(ratios(once, exact), 3)}" if once else "",
            ]
        )
    names = ["training", "harm", "exact", "auto", "ratio", "levels", "harm measured"]
    return table([*names, "by softmax alone: levels, ratio"], rows)


def harm_heads(record: Any) -> str:
    records = [one for one in record["records"] if one["part"] == "heads"]
    rows = []
    for name in dict.fromkeys(one["task"] for one in records):
        mine = [one for one in records if one["task"] == name]
        first, again, exact = ([one[arm] for one in mine] for arm in ("first", "again", "exact"))
        once = [one["softmax"] for one in mine if "softmax" in one]
        behind, trained = zip(*(one["behind"] for one in mine), strict=True)
        rows.append(
            [
                name,
                f"{levels(first)}, {statistics.mean(one['harm'] for one in first):.1e}",
                *(f"{levels(at)}, {statistics.mean(one['harm'] for one in at):.1e}" for at in (behind, trained)),
                f"{statistics.mean(smaller(again, first)):.2f}",
                *(f"{spread(ratios(arm, exact), 3)}{points(arm, exact)}" for arm in (first, again)),
                f"{levels(once)}, {spread(ratios(once, exact), 3)}{points(once, exact)}" if once else "",
            ]
        )
    names = ["training", "new head: levels, their harm", "after one epoch: levels, harm of the first ones"]
    names += ["trained head: likewise", "its bytes to the first", "loss to exact: as stored, untrained"]
    return table([*names, "by the trained head's levels", "by softmax alone: levels, loss"], rows)


def points(arm: Sequence[Any], exact: Sequence[Any]) -> str:
    """Accuracy less that on exact features."""
    if arm[0].get("accuracy") is None:
        return ""
    return f", {moved([a['accuracy'] - b['accuracy'] for a, b in zip(arm, exact, strict=True)])} points"


def first_tokens(record: Any) -> str:
    """Bytes in per cent of those with all tokens alike."""
    rows, before = [], None
    for one in record["rows"]:
        base = one["alike"]
        shares = {
            way: None if one[way] is None or base is None else 100 * one[way] / base
            for way in ("exact", "half", "8 bits")
        }
        cells = {way: "–" if share is None else f"{share:.0f}" for way, share in shares.items()}
        if shares["8 bits"] is not None and shares["8 bits"] < 100:
            cells["8 bits"] = f"**{cells['8 bits']}**"
        rows.append(
            [
                one["model"] if one["model"] != before else "",
                one["cut"].rpartition(".")[2],
                f"{one['first']:.1f}, {one['others']:.1f}",
                "–" if base is None else f"{base:,.0f}",
                *cells.values(),
                "–" if one["harm"] is None else f"{one['harm']:.1e}",
            ]
        )
        before = one["model"]
    names = ["model, what its head reads", "behind block", "norm of first tokens, others", "alike, bytes"]
    return table([*names, "exact, %", "half precision, %", "8 bits, %", "alike, harm there"], rows)


TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "codec depths": ("codecs.json", codec_depths),
    "first tokens": ("first_tokens.json", first_tokens),
    "harm heads": ("harm_by_task.json", harm_heads),
    "harm tasks": ("harm_by_task.json", harm_tasks),
}

DERIVED: dict[str, Callable[[Any], list[float]]] = {"codecs.json": codecs_derived}
