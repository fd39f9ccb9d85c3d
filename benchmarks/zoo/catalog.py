"""Who is in the zoo."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from fnmatch import fnmatch

from .entry import Entry

__all__ = ["GROUPS", "entries", "find_entry", "selected"]

# For each group the module of this package that knows its models, and the function there.
GROUPS = {
    "user": ("own_models", "entries"),
    "torchvision": ("torchvision_models", "stills"),
    "torchvision-detection": ("torchvision_models", "detectors"),
    "torchvision-video": ("torchvision_models", "films"),
    "timm": ("timm_models", "entries"),
    "transformers": ("transformers_models", "entries"),
}


def entries(group: str) -> list[Entry]:
    """The models of a group.

    Raises:
        ImportError: the package that they come from is missing.
    """
    module, function = GROUPS[group]
    found: list[Entry] = getattr(importlib.import_module(f".{module}", __package__), function)()
    return found


def selected(found: Sequence[Entry], patterns: Sequence[str]) -> list[Entry]:
    """Those whose name or label fits one of the patterns (as of a shell); all where there is no pattern."""
    if not patterns:
        return list(found)
    return [e for e in found if any(fnmatch(e.name, p) or fnmatch(e.label, p) for p in patterns)]


def find_entry(group: str, name: str) -> Entry:
    """One model, by the names that `entries` gives."""
    return next(entry for entry in entries(group) if entry.name == name)
