"""Whose a piece of code is: the user's own, which may change from run to run, or a package's, which has a version."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import PurePath
from types import CodeType, ModuleType
from typing import Any

__all__ = ["package_of", "versions_of"]

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_HOUSE = __name__.partition(".")[0]


def package_of(value: Any) -> str | None:
    """The package that a function, class, module or instance is from, "" for Python's own; None where it is the user's.

    What is not installed but read from a folder of the user's is the user's, a package under development too.
    """
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if not isinstance(name, str):
        name = type(value).__module__
    top = name.partition(".")[0]
    if top in (_HOUSE, "builtins"):
        return _HOUSE if top == _HOUSE else ""
    if top in sys.stdlib_module_names:
        return ""
    code = getattr(value, "__code__", None)
    if isinstance(code, CodeType):
        return top if _installed(code.co_filename) else None
    file = getattr(sys.modules.get(name) or sys.modules.get(top), "__file__", None)
    return top if file is not None and _installed(file) else None


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Their versions, by name."""
    return {name: _version(name) for name in sorted(packages)}


@cache
def _installed(file: str) -> bool:
    return not _INSTALLED.isdisjoint(PurePath(file).parts)


def _version(name: str) -> str:
    told = getattr(sys.modules.get(name), "__version__", None)
    if isinstance(told, str):
        return told
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
