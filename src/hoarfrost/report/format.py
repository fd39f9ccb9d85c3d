"""Numbers as people read them, for the report and the terminal."""

from __future__ import annotations

import math

__all__ = ["format_bytes", "format_count", "format_percent", "format_seconds"]

UNKNOWN = "–"


def format_bytes(count: float | None) -> str:
    """Bytes in decimal units, three digits: `"950 B"`, `"4.37 MB"`, `"12.0 GB"`; a dash for None or NaN."""
    return _scaled(count, 1000, ("B", "kB", "MB", "GB", "TB", "PB"))


def format_count(count: float | None) -> str:
    """A large number, three digits: `"950"`, `"4.37 M"`, `"1.20 G"`, as for FLOPs and parameters."""
    return _scaled(count, 1000, ("", "k", "M", "G", "T", "P", "E")).strip()


def format_percent(share: float | None, digits: int = 1) -> str:
    """A share of 1 in percent: `0.8875` gives `"88.8 %"`."""
    return UNKNOWN if share is None or math.isnan(share) else f"{100 * float(share):.{digits}f} %"


def format_seconds(seconds: float | None) -> str:
    """Seconds as `"42 ms"`, `"3.21 s"`, `"2 min 05 s"` or `"1 h 03 min"`; a dash for None or NaN."""
    if seconds is None or not math.isfinite(seconds):
        return _without_number(seconds)
    sign, value = ("-" if seconds < 0 else ""), abs(float(seconds))
    if value == 0:
        return "0 s"
    if value < 0.9995:
        return f"{sign}{value * 1000:.0f} ms" if value >= 0.0095 else f"{sign}{value * 1000:.2g} ms"
    if value < 9.995:
        return f"{sign}{value:.2f} s"
    if value < 59.95:
        return f"{sign}{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{sign}{whole // 60} min {whole % 60:02d} s"
    minutes = round(value / 60)
    return f"{sign}{minutes // 60} h {minutes % 60:02d} min"


def _without_number(value: float | None) -> str:
    """What has no digits: nothing, NaN, and what is infinite."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return "∞" if value > 0 else "-∞"


def _scaled(count: float | None, step: int, units: tuple[str, ...]) -> str:
    if count is None or not math.isfinite(count):
        return _without_number(count)
    sign, value = ("-" if count < 0 else ""), abs(float(count))
    power = 0
    # 999.5 would be printed as 1000: it belongs to the next unit.
    while value >= step - 0.5 and power < len(units) - 1:
        value, power = value / step, power + 1
    digits = 0 if power == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{sign}{value:.{digits}f} {units[power]}"
