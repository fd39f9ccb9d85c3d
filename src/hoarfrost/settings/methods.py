"""Methods by name: defaults of settings, each of which can be told by itself, and otherwise beside the name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from .checks import check_word

__all__ = ["METHODS", "takes_method", "with_method"]

P = ParamSpec("P")
R = TypeVar("R")

METHODS: dict[str, dict[str, Any]] = {
    "paper": {
        "policy": "stages",
        "settle": "last",
        "mode": "cache",
        "views": {
            "base": "clean",
            "further": "mirrored",
            "channels": {"share": 0.3},
            "metric": "ssim",
            "derived": 1.0,
            "border": "zeros",
            "grain": "chunk",
        },
        "ladder": "zfp",
        "chunks": {"size": 8, "members": "neighbours"},
        "window": 0,
        "noise": {"std": [0.03, 0.01], "blur": [0.0, 1.0], "alike": True},
    },
}
"""Each as keywords of `Freezer`. "paper": Yang et al. 2025 (arXiv 2508.15033) as the authors' public code has it; where
each value is from, and what was left out, stands in docs/guide/paper.md."""

SHORT = {"views": "count", "chunks": "size"}
"""What a number alone changes of such a setting."""


def with_method(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is told, with the defaults of the method that it names in front of it.

    A mapping changes fields of what the method says, a number views' count or chunks' size; all else takes its place.

    Raises:
        ArgumentError: there is no such method.
    """
    name = told.get("method")
    if name is None:
        return dict(told)
    check_word("method", name, tuple(METHODS))
    made = dict(METHODS[name])
    for key, value in told.items():
        own = made.get(key)
        if isinstance(own, Mapping) and key in SHORT and isinstance(value, int | str) and not isinstance(value, bool):
            value = {SHORT[key]: int(value) if isinstance(value, str) and value.isdigit() else value}
        made[key] = {**own, **value} if isinstance(own, Mapping) and isinstance(value, Mapping) else value
    return made


def takes_method(function: Callable[P, R]) -> Callable[P, R]:
    """Lets a function take `method=` among its keywords: of its other ones those that are not told are as the method
    has them."""
    own = inspect.signature(function).parameters

    @functools.wraps(function)
    def told(*args: P.args, **keywords: P.kwargs) -> R:
        given: Any = {name: value for name, value in with_method(keywords).items() if name in own or name in keywords}
        return function(*args, **given)

    return told
