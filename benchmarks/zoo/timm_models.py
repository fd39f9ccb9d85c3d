"""The smallest variant of every model family in timm.

A family is what one module of timm names with the same first letters (`resnet`, `resnext`, `seresnet`, ...). Which
variant has the fewest parameters was counted on the meta device, without memory; `python -m zoo.timm_models`, run in
`benchmarks/`, counts anew for the installed timm (some minutes) and rewrites `timm.json`.
"""

from __future__ import annotations

import json
import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from .entry import Entry, Samples, images

__all__ = ["entries"]

CHOSEN = Path(__file__).with_name("timm.json")
SIZES = (64, 96, 112, 128, 160, 192, 224, 240, 256, 288, 384, 448, 512)
CLASSES = 5
# The smallest of these families are large: they keep their width and lose blocks.
OPTIONS: dict[str, dict[str, Any]] = {
    name: {"depth": 4}
    for name in ("eva_large_patch14_196", "aimv2_large_patch14_224", "deepseek_vit_412m", "gemma4_vit_167m")
}


def entries() -> list[Entry]:
    chosen: dict[str, str] = json.loads(CHOSEN.read_text())
    return [Entry("timm", name, partial(build, name)) for name in sorted(set(chosen.values()))]


def build(name: str) -> tuple[nn.Module, Samples]:
    """The model at the smallest input size that it accepts.

    Raises:
        RuntimeError: it accepts none of them; the first size's error is chained.
    """
    first: Exception | None = None
    for size in SIZES:
        try:
            model = made(name, size)
            batch = images(size)(2)
            with torch.no_grad():
                model.eval()(batch)
                model.train()(batch)
        except Exception as error:
            first = first or error
        else:
            return made(name, size), images(size)
    raise RuntimeError(f"no size of {SIZES[0]} to {SIZES[-1]} fits: {first}") from first


def made(name: str, size: int) -> nn.Module:
    options = {"num_classes": CLASSES, **OPTIONS.get(name, {})}
    published = timm.get_pretrained_cfg(name)
    if published is not None and published.fixed_input_size:
        options["img_size"] = size
    model: nn.Module = timm.create_model(name, pretrained=False, **options)
    return model


def smallest() -> dict[str, str]:
    """The variant with the fewest parameters of each family; the `test_` models that timm keeps for itself are none."""
    best: dict[str, tuple[int, str]] = {}
    for module in timm.list_modules():
        for name in timm.list_models(module=module):
            if name.startswith("test_"):
                continue
            family = f"{module}.{re.split('[^a-z]', name)[0]}"
            with torch.device("meta"):
                count = sum(parameter.numel() for parameter in timm.create_model(name).parameters())
            best[family] = min(best.get(family, (count, name)), (count, name))
    return {family: name for family, (_, name) in best.items()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    CHOSEN.write_text(json.dumps(smallest(), indent=1) + "\n")
