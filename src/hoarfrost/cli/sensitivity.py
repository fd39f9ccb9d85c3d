"""`hoarfrost sensitivity`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..running import RunConfig
from .options import DATA, MEASURING, RUN, as_told, option, takes
from .terminal import console, measuring, say, told_plainly

__all__ = ["sensitivity"]


@takes(
    *("model", "data", "weights", "pretrained", "image_size"),
    *("cut", "metric", "samples", "share", "ladder", "tolerance"),
    *("out", "as_json", "seed", "device", "channels_last"),
    data={"text": "embedded, fashion-mnist, or an image folder; with the training transform"},
    ladder={"panel": MEASURING},
    tolerance={"panel": MEASURING},
    seed={"text": "Of fresh weights, images and renditions"},
)
def sensitivity(
    *,
    weights: Annotated[
        Path | None, option(DATA, "FILE", text="A trained model, such as model.safetensors of a run.")
    ] = None,
    cut: Annotated[
        list[str] | None, option(MEASURING, "CUT", text="Once or more; default: the recommended cuts.")
    ] = None,
    metric: Annotated[str, option(MEASURING, "NAME", text="cosine, ssim, psnr, relative, energy or harm.")] = "cosine",
    samples: Annotated[int, option(MEASURING, "N", text="Images that are looked at.", min=2)] = 256,
    share: Annotated[
        list[float] | None,
        option(MEASURING, "S", text="Share of channels that a view stores, from 0 to 1; once or more."),
    ] = None,
    out: Annotated[Path | None, option(RUN, "FILE", text="Write the pictures, as one HTML file.")] = None,
    as_json: Annotated[bool, option(RUN, None, "--json", text="For programs: one JSON object.")] = False,
    **told: Any,
) -> None:
    """Show how sensitive a model's channels are to the augmentation, and what views would store of them."""
    with told_plainly():
        from rich.markup import escape

        from ..planning import ModelSensitivity
        from ..report import print_table, sensitivity_tables, write_sensitivity

        with measuring("preparing") as on_cut:
            measured = ModelSensitivity.of(
                RunConfig.told(**as_told(told)),
                weights=weights,
                cuts=cut or None,
                metric=metric,
                samples=samples,
                shares=share or None,
                on_cut=on_cut,
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
