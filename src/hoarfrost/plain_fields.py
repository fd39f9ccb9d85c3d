"""Fields of a dataclass that hold plain values: of the kind that they are annotated with, and finite."""

from __future__ import annotations

import math
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

from .errors import ArgumentError, HoarfrostError

__all__ = ["check_plain_fields"]

WORDS = {"int": "a whole number", "float": "a finite number", "str": "text", "bool": "true or false", "None": "None"}


def check_plain_fields(told: Any, where: str = "", error: type[HoarfrostError] = ArgumentError) -> None:
    """Raise `error` for the first field that is annotated with plain kinds alone, and holds something else.

    A number is none where it is NaN or infinite: no comparison that follows would notice.

    Args:
        where: what the fields belong to, for the message.
    """
    for field in fields(told):
        kinds = [kind.strip() for kind in str(field.type).split("|")]
        if field.init and set(kinds) <= set(WORDS) and not any(_is(kind, getattr(told, field.name)) for kind in kinds):
            right = " or ".join(WORDS[kind] for kind in kinds)
            raise error(f"{where}{field.name} must be {right}, not {str(getattr(told, field.name))[:60]!r}")


def _is(kind: str, value: Any) -> bool:
    if kind == "None" or value is None:
        return kind == "None" and value is None
    if kind == "str" or isinstance(value, str):
        return kind == "str" and isinstance(value, str)
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    if kind == "int":
        return isinstance(value, Integral)
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except OverflowError:
        return False
