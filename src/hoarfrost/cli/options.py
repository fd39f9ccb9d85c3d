"""Options of the command, made from the fields of what a run is told: their help stands beside the fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import Field
from typing import Annotated, Any, TypeVar

import typer

from ..errors import ArgumentError
from ..running import RunConfig
from ..running.config import DATA, RUN, TRAINING
from ..settings import fields_of, to_flat

__all__ = ["DATA", "DEFAULT", "ELSEWHERE", "FREEZING", "MEASURING", "RUN", "as_told", "option", "takes"]

F = TypeVar("F", bound=Callable[..., None])

ELSEWHERE, MEASURING, FREEZING = "Data that are not on this machine", "Measuring", "Freezing and storing"
PANELS = [DATA, ELSEWHERE, TRAINING, MEASURING, FREEZING, RUN]
"""Of the help, from top to bottom."""

TYPES = {kind.__name__: kind for kind in (str, int, float, bool)}

DEFAULT: Any = object()
"""The run's own default, said in the help; the option is None where it is left out."""


def option(panel: str, metavar: str | None, *names: str, text: str, **more: Any) -> Any:
    """An option in a panel of the help; flags have no metavar."""
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel, **more)


def takes(*names: str, left_out: bool = False, **otherwise: Mapping[str, Any]) -> Callable[[F], F]:
    """Lets a command take options of a run as `**told`, beside the parameters of its own.

    Args:
        names: of the options, the command's own among them, in the order of the help; none: all of a run, behind the
            command's own.
        left_out: what is not typed is not told, since a file may say it.
        otherwise: what is different in this command, by name: `text`, `panel` or `default`.
    """
    of_run = fields_of(RunConfig)

    def with_options(command: F) -> F:
        own = inspect.signature(command, eval_str=True).parameters
        mine = {name: one for name, one in own.items() if one.kind is not inspect.Parameter.VAR_KEYWORD}
        order = names or (*mine, *(name for name, one in of_run.items() if "option" in one.metadata))
        chosen = [
            mine[name] if name in mine else _parameter(of_run[name], left_out, **otherwise.get(name, {}))
            for name in order
        ]
        chosen.sort(key=lambda one: PANELS.index(one.annotation.__metadata__[0].rich_help_panel))
        command.__signature__ = inspect.Signature(chosen, return_annotation=None)  # type: ignore[attr-defined]
        return command

    return with_options


def _parameter(
    field: Field[Any], left_out: bool, text: str | None = None, panel: str | None = None, default: Any = None
) -> inspect.Parameter:
    """Of a field that is an option; `text`, `panel` and `default` win over its own."""
    more = dict(field.metadata["option"])
    metavar, told, usual = more.pop("metavar"), more.pop("text"), more.pop("panel", FREEZING)
    kind = more.pop("typed", None) or TYPES[str(field.type)]
    names = [more.pop("flag")] if "flag" in more else []
    of_run = to_flat(RunConfig())[field.name]
    silent = left_out or default is DEFAULT
    said = f"; default: {of_run}" if silent and of_run is not None and kind is not bool else ""
    value = None if silent else of_run
    words = option(panel or usual, metavar, *names, text=f"{text or told}{said}.", **more)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=value,
        annotation=Annotated[kind if value is not None else kind | None, words],
    )


def as_told(typed: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed, as `RunConfig.told` takes it: read where it is a text, and without what was left out.

    Raises:
        ArgumentError: a schedule that is none.
    """
    told = {name: value for name, value in typed.items() if value is not None}
    if "freeze" in told:
        told["freeze"] = parse_points(told["freeze"])
    for name in ("ladder", "evaluation"):
        if str(told.get(name)).isdigit():
            told[name] = int(told[name])
    return told


def parse_points(text: str) -> dict[int, str | int]:
    """`5=layer1,10=layer2` -> {5: "layer1", 10: "layer2"}.

    Raises:
        ArgumentError: it is no such list.
    """
    try:
        pairs = [point.split("=", 1) for point in text.split(",")]
        return {int(epoch): cut.strip() for epoch, cut in pairs}
    except ValueError:
        raise ArgumentError(f"--freeze {text!r} is no schedule; write 5=layer1,10=layer2") from None
