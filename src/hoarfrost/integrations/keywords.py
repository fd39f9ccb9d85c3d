"""Which keywords of a Freezer a door hands on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentError
from ..freezer import Freezer

__all__ = ["check_keywords"]


def check_keywords(told: Mapping[str, Any], taken: Mapping[str, str]) -> None:
    """Raise ArgumentError where one is none of a Freezer's, or has no place here.

    Args:
        taken: keywords that the framework says, each with where it does.
    """
    for name, where in taken.items():
        if name in told:
            raise ArgumentError(f"{name}={told[name]!r} has no place here: {where}")
    known = [name for name in inspect.signature(Freezer).parameters if name not in taken]
    for name in told:
        if name not in known:
            raise ArgumentError(f"{name}={told[name]!r}: a Freezer takes {', '.join(known)}")
