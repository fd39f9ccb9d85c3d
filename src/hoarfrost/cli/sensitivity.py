"""`hoarfrost sensitivity`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ..planning.model_cuts import ModelSensitivity
from ..planning.sensitivity import SHARES
from ..report import sensitivity_tables, write_sensitivity
from ..running.config import RunConfig
from ..running.display import print_table
from .terminal import console, say, told_plainly
from .train import DATA, RUN, option

__all__ = ["sensitivity"]

DEFAULT = RunConfig()
MEASURING = "Measuring"


def sensitivity(
    model: Annotated[
        str, option(DATA, "NAME", text="A torchvision classifier, cifar_resnet, or module:function.")
    ] = DEFAULT.model,
    data: Annotated[
        str, option(DATA, "NAME|DIR", text="embedded, fashion-mnist, or an image folder; with the training transform.")
    ] = DEFAULT.data,
    weights: Annotated[
        Path | None, option(DATA, "FILE", text="A trained model, such as model.safetensors of a run.")
    ] = None,
    pretrained: Annotated[
        bool, option(DATA, None, "--pretrained/--from-scratch", text="ImageNet weights, or none.")
    ] = False,
    image_size: Annotated[int | None, option(DATA, "N", text="Pixels that images are brought to.", min=1)] = None,
    cut: Annotated[
        list[str] | None, option(MEASURING, "CUT", text="Once or more; default: the recommended cuts.")
    ] = None,
    metric: Annotated[str, option(MEASURING, "NAME", text="cosine, relative, energy or harm.")] = "cosine",
    samples: Annotated[int, option(MEASURING, "N", text="Images that are looked at.", min=2)] = 256,
    share: Annotated[
        list[float] | None,
        option(MEASURING, "S", text="Share of channels that a view stores, from 0 to 1; once or more."),
    ] = None,
    ladder: Annotated[str, option(MEASURING, "NAME|BITS", text="auto, exact, half, or a number of bits.")] = str(
        DEFAULT.ladder
    ),
    tolerance: Annotated[
        float, option(MEASURING, "X", text="Harm that compression may do, KL in nats.")
    ] = DEFAULT.tolerance,
    out: Annotated[Path | None, option(RUN, "FILE", text="Write the pictures, as one HTML file.")] = None,
    as_json: Annotated[bool, option(RUN, None, "--json", text="For programs: one JSON object.")] = False,
    seed: Annotated[int, option(RUN, "N", text="Of fresh weights, images and renditions.")] = DEFAULT.seed,
    device: Annotated[str | None, option(RUN, "NAME", text="cpu, cuda, ...; default: a GPU if there is one.")] = None,
    channels_last: Annotated[
        bool, option(RUN, None, "--channels-last/--channels-first", text="Memory format of images.")
    ] = DEFAULT.channels_last,
) -> None:
    """Show how sensitive a model's channels are to the augmentation, and what views would store of them."""
    with told_plainly():
        # Not on stdout, which may be read by a program.
        with Console(stderr=True).status("preparing") as status:
            measured = ModelSensitivity.of(
                model,
                data,
                weights=weights,
                pretrained=pretrained,
                image_size=image_size,
                cuts=cut or None,
                metric=metric,
                samples=samples,
                shares=share or SHARES,
                ladder=int(ladder) if ladder.isdigit() else ladder,
                tolerance=tolerance,
                seed=seed,
                device=device,
                channels_last=channels_last,
                on_cut=lambda done, of: status.update(f"measuring cut {done + 1} of {of}"),
            )
        found = measured.plain()
        if as_json:
            typer.echo(json.dumps(found, indent=2))
        else:
            images = f"{measured.samples:,} images of {measured.data}"
            console.print(f"[bold]{escape(measured.model)}[/], {escape(images)}, metric {measured.metric}")
            for line in measured.described:
                console.print(f"  [dim]{escape(line)}[/]", highlight=False)
            for table in sensitivity_tables(found):
                console.print()
                print_table(console, table)
        if out is not None:
            written = write_sensitivity(out, found)
            if not as_json:
                say(f"\npicture  {written}")
