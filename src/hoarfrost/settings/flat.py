"""Settings under plain names: as keywords, options of the command, YAML and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ArgumentError

__all__ = ["fields_of", "from_flat", "group", "option", "to_flat", "told_as"]

S = TypeVar("S")


def option(default: Any, metavar: str | None, text: str, **more: Any) -> Any:
    """A field that the command shows as an option.

    Args:
        metavar: of its value; None: it is a flag.
        text: its help.
        more: `typed`: how it is typed on the command line, where that differs from the field; `panel` of the help;
            further arguments of `typer.Option`.
    """
    return field(default=default, metadata={"option": {"metavar": metavar, "text": text, **more}})


def group(of: type[Any], **defaults: Any) -> Any:
    """A field that holds settings, with other defaults than their own."""
    return field(default_factory=lambda: of(**defaults), metadata={"group": of, "defaults": defaults})


def fields_of(cls: type[Any]) -> dict[str, Field[Any]]:
    """All fields by name, those of the settings that `cls` holds in their place."""
    found: dict[str, Field[Any]] = {}
    for own in fields(cls):
        found |= fields_of(own.metadata["group"]) if "group" in own.metadata else {own.name: own}
    return found


def from_flat(cls: type[S], told: Mapping[str, Any]) -> S:
    """An instance from names and values, each put where its field is; names that it does not know are passed over."""
    given: dict[str, Any] = {}
    for own in fields(cls):  # type: ignore[arg-type]
        if "group" in own.metadata:
            given[own.name] = from_flat(own.metadata["group"], {**own.metadata["defaults"], **told})
        elif own.name in told:
            given[own.name] = told[own.name]
    return cls(**given)


def to_flat(settings: Any) -> dict[str, Any]:
    """The inverse of `from_flat`, as JSON takes it.

    Raises:
        ArgumentError: a value that has no such form, such as a policy that is a function.
    """
    found: dict[str, Any] = {}
    for own in fields(settings):
        value = getattr(settings, own.name)
        found |= to_flat(value) if "group" in own.metadata else {own.name: _plain(own.name, value)}
    return found


def told_as(value: Any) -> Any:
    """A setting as JSON gives it back, to be compared with one that was saved; what has no such form by its type."""
    try:
        return json.loads(json.dumps(_plain("", value)))
    except (ArgumentError, TypeError):
        return value.__qualname__ if hasattr(value, "__qualname__") else type(value).__qualname__


def _plain(name: str, value: Any) -> Any:
    if hasattr(value, "plain"):
        return value.plain()
    if hasattr(value, "to_config"):
        return value.to_config()
    if isinstance(value, Mapping):
        return {key: _plain(name, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ArgumentError(f"{name} is {value!r}, which cannot be written down: give it by name")
