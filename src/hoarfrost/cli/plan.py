"""`hoarfrost plan`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ArgumentError
from ..running import RunConfig
from .options import DEFAULT, ELSEWHERE, FREEZING, RUN, as_told, option, takes
from .terminal import console, measuring, told_plainly

if TYPE_CHECKING:
    from ..planning import Elsewhere

__all__ = ["plan"]


@takes(
    *("model", "data", "image_size", "pretrained", "samples", "classes", "channels"),
    *("epochs", "batch_size", "optimizer", "policy", "freeze", "cut", "views", "ladder", "mode", "tolerance"),
    *("method", "window", "chunks", "noise"),
    *("disk_budget", "probe", "as_json", "seed", "device", "workers", "channels_last", "precision"),
    data={"default": DEFAULT},
    policy={"text": "schedule, stages or none", "default": DEFAULT},
    views={"default": DEFAULT},
    ladder={"default": DEFAULT},
    mode={"default": DEFAULT},
    window={"default": DEFAULT},
    chunks={"default": DEFAULT},
    noise={"default": DEFAULT},
    disk_budget={"text": "Most that features may take: 500MB, 2GiB"},
    seed={"text": "Of fresh weights, images and renditions"},
)
def plan(
    *,
    samples: Annotated[
        int | None, option(ELSEWHERE, "N", text="So many images, in place of --data: --samples 1281167.", min=1)
    ] = None,
    classes: Annotated[int | None, option(ELSEWHERE, "N", text="Of them; default: 1000.", min=1)] = None,
    channels: Annotated[int | None, option(ELSEWHERE, "N", text="1 or 3; default: 3.")] = None,
    cut: Annotated[
        list[str] | None, option(FREEZING, "CUT", text="To look at, once or more; default: six recommended ones.")
    ] = None,
    probe: Annotated[
        int | None, option(RUN, "N", text="Images to measure on; default: two seconds of training.", min=2)
    ] = None,
    as_json: Annotated[bool, option(RUN, None, "--json", text="For programs: one JSON object.")] = False,
    **told: Any,
) -> None:
    """Say beforehand what freezing would save: seconds and bytes at each cut, and for the whole training."""
    with told_plainly():
        from ..planning import ModelPlan
        from ..report import print_table

        elsewhere = _elsewhere(told["data"], samples, image_size=told["image_size"], classes=classes, channels=channels)
        with measuring("measuring full training") as on_cut:
            found = ModelPlan.of(
                RunConfig.told(**as_told(told)), elsewhere=elsewhere, cuts=cut or None, probe=probe, on_cut=on_cut
            )
        if as_json:
            typer.echo(json.dumps(found.plain(), indent=2))
            return
        for table in (found.cuts_table, *(found.rungs_tables if cut else ()), found.stages_table):
            print_table(console, table)
            console.print()


def _elsewhere(data: str | None, samples: int | None, **sizes: int | None) -> Elsewhere | None:
    """The data that are not here, where their number is given."""
    from ..planning import Elsewhere

    given = {name: value for name, value in sizes.items() if value is not None}
    if samples is None:
        alone = sorted(given.keys() - {"image_size"})
        if alone:
            raise ArgumentError(f"{' and '.join(alone)} describe data that are not here: give --samples, too")
        return None
    if data is not None:
        raise ArgumentError("give --data, or --samples for data that are not here, not both")
    return Elsewhere(samples, **given)
