"""`hoarfrost cuts`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .terminal import console, told_plainly

__all__ = ["cuts"]


def cuts(
    model: Annotated[str, typer.Argument(help="A torchvision classifier, cifar_resnet, or module:function.")],
    data: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Take size, channels and classes from these data.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(min=1, metavar="N", help="Pixels; default: 224.")] = None,
    channels: Annotated[int | None, typer.Option(min=1, metavar="N", help="Of the images; default: 3.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, metavar="N", help="Outputs of the model; default: 10.")] = None,
    max_tensors: Annotated[int, typer.Option(min=1, metavar="N", help="How many tensors may cross a cut.")] = 1,
    every: Annotated[bool, typer.Option("--all", help="Also the cuts inside blocks.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
) -> None:
    """Show where a model can be divided, and what lies in front."""
    with told_plainly():
        from ..planning import ModelCuts
        from ..report import print_table

        found = ModelCuts.of(
            model,
            data=data,
            channels=channels,
            image_size=image_size,
            classes=classes,
            max_tensors=max_tensors,
            every=every,
        )
        if as_json:
            typer.echo(json.dumps(found.plain(), indent=2))
        else:
            print_table(console, found.table())
