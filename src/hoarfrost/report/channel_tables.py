"""How sensitive the channels of each cut are, and what would be stored of each image, as two tables.

What is shown is a plain mapping, as `hoarfrost.planning.ModelSensitivity.plain` gives it and `--json` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .format import UNKNOWN, format_bytes, format_percent
from .table import Table

__all__ = ["METRICS", "Found", "highest_of", "percent", "quantiles", "sensitivity_tables", "steps_of", "three_digits"]

Found = Mapping[str, Any]

BLOCKS = "▁▂▃▄▅▆▇█"

METRICS = {
    "cosine": "1 minus the cosine similarity",
    "ssim": "1 minus the structural similarity, values of 1 apart taken for black and white",
    "psnr": "squared error, its geometric mean over batches",
    "relative": "squared error, relative to the features' own energy",
    "energy": "squared error, in the features' own unit",
    "harm": "mean squared change of the outputs' log-likelihood, in nats²",
}


def sensitivity_tables(found: Found) -> tuple[Table, Table]:
    """For each cut how sensitive its channels are, and what would be stored of each image."""
    return _channels_table(found), _bytes_table(found)


def _channels_table(found: Found) -> Table:
    steps = steps_of(found)
    alone = steps if len(steps) > 1 else []
    rows, highest = [], highest_of(found)
    for cut in found["cuts"]:
        features = "x".join(map(str, cut["features"]))
        if cut["sensitivity"] is None:
            rows.append([cut["cut"], features, "", *[UNKNOWN] * (3 + len(alone))])
            continue
        medians = [three_digits(float(np.median(cut["steps"][name]))) for name in alone]
        rows.append(
            [
                cut["cut"],
                features,
                _strip(cut["sensitivity"], highest),
                *map(three_digits, quantiles(cut["sensitivity"])),
                *medians,
            ]
        )
    reasons = dict.fromkeys(cut["reason"] for cut in found["cuts"] if cut["reason"])
    measured = (
        f"{METRICS[found['metric']]}; 0: a channel moves with the image. 10 % of the channels are above the first "
        "number, half above the median, 90 % above the last"
    )
    apart = "; behind them the median where two views differ in that step alone" if alone else ""
    nothing = "".join(f"; {UNKNOWN}: nothing can be derived, since {reason}" for reason in reasons)
    drawn = any(cut["sensitivity"] is not None for cut in found["cuts"])
    return Table(
        title="How far channels are from what can be derived",
        header=["cut", "features", "channels", "10 %", "median", "90 %", *map(_short, alone)],
        rows=rows,
        note=(measured + apart + nothing) if drawn else nothing.removeprefix("; "),
    )


def _bytes_table(found: Found) -> Table:
    cuts = found["cuts"]
    # A share at which every cut stores all channels is the base view once more.
    parts = [n for n, _ in enumerate(_shares(found)) if any(_is_part(cut, cut["further"][n]) for cut in cuts)]
    behind = (
        "; in per cent: a further view that stores this share of the channels, the most sensitive ones (one at least; "
        "all of them, as the base view does, above three quarters and where nothing can be derived)"
    )
    return Table(
        title="What would be stored of each image",
        header=["cut", "codec", "fp32", "base view", *(percent(_shares(found)[n]) for n in parts)],
        rows=[
            [
                cut["cut"],
                cut["codec"],
                format_bytes(cut["dense_bytes_per_sample"]),
                format_bytes(cut["base_bytes_per_sample"]),
                *(format_bytes(cut["further"][n]["bytes_per_sample"]) for n in parts),
            ]
            for cut in cuts
        ],
        note=(
            f"codec: the ladder's strongest rung that harms the outputs by no more than {found['tolerance']:g} nats; "
            f"base view: all channels{behind if parts else '; every further view takes as much'}"
        ),
    )


def _shares(found: Found) -> list[float]:
    return [stored["share"] for cut in found["cuts"][:1] for stored in cut["further"]]


def _is_part(cut: Found, stored: Found) -> bool:
    """Whether something is left to be derived."""
    return cut["sensitivity"] is not None and len(stored["channels"]) < len(cut["sensitivity"])


def _strip(values: Sequence[float], highest: float, cells: int = 8) -> str:
    """The sorted values as a row of blocks, on the scale of all cuts."""
    ranks = (np.arange(cells) + 0.5) / cells
    heights = np.quantile(np.asarray(values), 1 - ranks) / (highest or 1)
    return "".join(BLOCKS[min(len(BLOCKS) - 1, int(height * len(BLOCKS)))] for height in heights)


def quantiles(values: Sequence[float]) -> list[float]:
    """What 10 %, half and 90 % of the channels are above."""
    return [float(value) for value in np.quantile(np.asarray(values), (0.9, 0.5, 0.1))]


def steps_of(found: Found) -> list[str]:
    """The random steps that were measured alone, in the transform's order."""
    return list(dict.fromkeys(name for cut in found["cuts"] for name in cut["steps"]))


def highest_of(found: Found) -> float:
    """The largest sensitivity of all: the pictures' common scale."""
    every = [cut["sensitivity"] for cut in found["cuts"] if cut["sensitivity"]]
    alone = [values for cut in found["cuts"] for values in cut["steps"].values()]
    return max((max(values) for values in [*every, *alone]), default=0.0)


def _short(name: str) -> str:
    return name.removeprefix("Random") or name


def three_digits(value: float) -> str:
    """Three digits, small numbers included: `"0.143"`, `"0.0042"`, `"3.1e-05"`."""
    if value == 0:
        return "0"
    return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.2g}"


def percent(share: float) -> str:
    return format_percent(share, 0 if round(100 * share, 6).is_integer() else 1)
