"""Tables in Markdown, and how numbers stand in them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows])


def spread(values: Sequence[float], decimals: int) -> str:
    """Mean and standard deviation; of one value that alone."""
    mean = f"{statistics.mean(values):.{decimals}f}"
    return f"{mean} ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else mean


def moved(values: Sequence[float]) -> str:
    """Differences in points, with their sign."""
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):+.2f}{deviation}"


def ranged(found: dict[str, float], decimals: int) -> str:
    """Median and, in brackets, quartiles or range."""
    low, high = (found[end] for end in (("low", "high") if "low" in found else ("min", "max")))
    return f"{found['median']:.{decimals}f} ({low:.{decimals}f}–{high:.{decimals}f})"
