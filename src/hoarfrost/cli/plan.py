"""`hoarfrost plan`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from ..errors import ArgumentError
from ..planning.model_plan import Elsewhere, Outlook
from ..running.config import RunConfig
from ..running.display import print_table
from .terminal import console, told_plainly
from .train import DATA, FREEZING, RUN, TRAINING, option, parse_points

__all__ = ["plan"]

DEFAULT = RunConfig()
ELSEWHERE = "Data that are not on this machine"


def plan(
    model: Annotated[
        str, option(DATA, "NAME", text="A torchvision classifier, cifar_resnet, or module:function.")
    ] = DEFAULT.model,
    data: Annotated[
        str | None,
        option(DATA, "NAME|DIR", text=f"embedded, fashion-mnist, or an image folder; default: {DEFAULT.data}."),
    ] = None,
    image_size: Annotated[int | None, option(DATA, "N", text="Pixels that images are brought to.", min=1)] = None,
    pretrained: Annotated[
        bool, option(DATA, None, "--pretrained/--from-scratch", text="ImageNet weights, or none.")
    ] = False,
    samples: Annotated[
        int | None, option(ELSEWHERE, "N", text="So many images, in place of --data: --samples 1281167.", min=1)
    ] = None,
    classes: Annotated[int | None, option(ELSEWHERE, "N", text="Of them; default: 1000.", min=1)] = None,
    channels: Annotated[int | None, option(ELSEWHERE, "N", text="1 or 3; default: 3.")] = None,
    epochs: Annotated[int, option(TRAINING, "N", text="How often every image is seen.", min=1)] = DEFAULT.epochs,
    batch_size: Annotated[int, option(TRAINING, "N", text="Images a step.", min=1)] = DEFAULT.batch_size,
    optimizer: Annotated[str, option(TRAINING, "NAME", text="sgd or adamw.")] = DEFAULT.optimizer,
    policy: Annotated[str, option(FREEZING, "NAME", text="schedule or none.")] = DEFAULT.policy,
    freeze: Annotated[
        str | None, option(FREEZING, "E=CUT,...", text="What to freeze before which epoch, from 0: 5=layer1,10=layer2.")
    ] = None,
    cut: Annotated[
        list[str] | None, option(FREEZING, "CUT", text="To look at, once or more; default: six recommended ones.")
    ] = None,
    views: Annotated[int, option(FREEZING, "N", text="Stored random renditions of each image.", min=1)] = DEFAULT.views,
    ladder: Annotated[str, option(FREEZING, "NAME|BITS", text="auto, exact, half, or a number of bits.")] = str(
        DEFAULT.ladder
    ),
    mode: Annotated[str, option(FREEZING, "NAME", text="auto (the cheaper), cache or recompute.")] = DEFAULT.mode,
    tolerance: Annotated[
        float, option(FREEZING, "X", text="Harm that compression may do, KL in nats.")
    ] = DEFAULT.tolerance,
    disk_budget: Annotated[
        str | None, option(FREEZING, "SIZE", text="Most that features may take: 500MB, 2GiB.")
    ] = None,
    probe: Annotated[
        int | None, option(RUN, "N", text="Images to measure on; default: two seconds of training.", min=2)
    ] = None,
    as_json: Annotated[bool, option(RUN, None, "--json", text="For programs: one JSON object.")] = False,
    seed: Annotated[int, option(RUN, "N", text="Of fresh weights, images and renditions.")] = DEFAULT.seed,
    device: Annotated[str | None, option(RUN, "NAME", text="cpu, cuda, ...; default: a GPU if there is one.")] = None,
    workers: Annotated[int, option(RUN, "N", text="Processes that read images.", min=0)] = DEFAULT.workers,
    channels_last: Annotated[
        bool, option(RUN, None, "--channels-last/--channels-first", text="Memory format of images.")
    ] = DEFAULT.channels_last,
) -> None:
    """Say beforehand what freezing would save: seconds and bytes at each cut, and for the whole training."""
    with told_plainly():
        elsewhere = _elsewhere(data, samples, image_size=image_size, classes=classes, channels=channels)
        given: dict[str, Any] = {
            "model": model,
            "data": data or DEFAULT.data,
            "image_size": image_size,
            "pretrained": pretrained,
            "epochs": epochs,
            "batch_size": batch_size,
            "optimizer": optimizer,
            "policy": policy,
            "freeze": None if freeze is None else parse_points(freeze),
            "views": views,
            "ladder": int(ladder) if ladder.isdigit() else ladder,
            "mode": mode,
            "tolerance": tolerance,
            "disk_budget": disk_budget,
            "seed": seed,
            "device": device,
            "workers": workers,
            "channels_last": channels_last,
        }
        # Not on stdout, which may be read by a program.
        with Console(stderr=True).status("measuring full training") as status:
            found = Outlook.of(
                RunConfig(**given),
                elsewhere=elsewhere,
                cuts=cut or None,
                probe=probe,
                on_cut=lambda done, of: status.update(f"measuring cut {done + 1} of {of}"),
            )
        if as_json:
            typer.echo(json.dumps(found.plain(), indent=2))
            return
        for table in (found.cuts_table, *(found.rungs_tables if cut else ()), found.stages_table):
            print_table(console, table)
            console.print()


def _elsewhere(data: str | None, samples: int | None, **sizes: int | None) -> Elsewhere | None:
    """The data that are not here, where their number is given."""
    given = {name: value for name, value in sizes.items() if value is not None}
    if samples is None:
        alone = sorted(given.keys() - {"image_size"})
        if alone:
            raise ArgumentError(f"{' and '.join(alone)} describe data that are not here: give --samples, too")
        return None
    if data is not None:
        raise ArgumentError("give --data, or --samples for data that are not here, not both")
    return Elsewhere(samples, **given)
