"""What the command shows as tables: a model's cuts, a directory's caches, and what is damaged in them."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from .cache import Cache, CacheInfo, list_caches
from .cuts import find_cuts
from .data import open_data
from .errors import CacheError
from .models import resolve_model
from .report import Table, format_bytes, format_count, format_percent

__all__ = ["caches_table", "cuts_table", "damage_table"]


def cuts_table(
    model: str,
    *,
    data: str | None = None,
    channels: int = 3,
    image_size: int = 224,
    max_tensors: int = 1,
    every: bool = False,
) -> Table:
    """The cuts of a model, front to back: recommended ones, or every one.

    Args:
        model: as in `resolve_model`.
        data: takes channels, classes and size of images from there.
        max_tensors: as in `find_cuts`.
        every: also those inside a block, and right behind the stem.

    Raises:
        ArgumentError: no such model or data, or the model does not take such images.
    """
    classes = 10
    if data is not None:
        opened = open_data(data)
        channels, image_size, classes = opened.channels, opened.image_size, len(opened.classes)
    network = resolve_model(model, classes=classes, channels=channels, image_size=image_size)
    cuts = find_cuts(network, torch.zeros(2, channels, image_size, image_size), max_tensors=max_tensors)
    shown = [cut for cut in cuts if cut.recommended or every]
    hidden = len(cuts) - len(shown)
    total = cuts[0].prefix_flops + cuts[0].suffix_flops if cuts else 0
    return Table(
        title=f"{model} on {channels} x {image_size} x {image_size}: {format_count(total)} FLOPs forward",
        header=["number", "cut", "features", "layout", "fp32", "FLOPs in front"],
        rows=[
            [
                str(cut.index),
                ("" if cut.recommended or not every else "· ") + cut.label,
                " + ".join("x".join(map(str, tensor.shape or ())) for tensor in cut.tensors),
                cut.layout,
                format_bytes(cut.bytes_per_sample),
                format_percent(cut.prefix_flops / total if total else None),
            ]
            for cut in shown
        ],
        note=_cuts_note(len(cuts), hidden, every),
    )


def _cuts_note(found: int, hidden: int, every: bool) -> str:
    if not found:
        return "the model has no place where it can be divided"
    kinds = f"{hidden} more lie inside blocks or behind the stem (--all shows them)" if hidden else ""
    inside = "a dot marks those inside blocks or right behind the stem" if every else ""
    return "; ".join(filter(None, ["features and bytes are of one image", kinds, inside]))


def caches_table(directory: Path) -> Table:
    """The caches in a directory, finished and building.

    Raises:
        CacheDirectoryError: there is no such directory.
    """
    caches = list_caches(directory)
    note = "samples x views" if caches else "no caches here"
    return Table(
        title=f"{directory}: {format_bytes(sum(cache.nbytes for cache in caches))}",
        header=["cache", "state", "cut", "samples", "codec", "stored", "written"],
        rows=[_cache_row(cache) for cache in caches],
        note=note,
    )


def _cache_row(info: CacheInfo) -> list[str]:
    written = time.strftime("%d %b", time.localtime(info.modified))
    stored = format_bytes(info.nbytes)
    if info.manifest is None:
        return [info.key, info.state, "–", "–", "–", stored, written]
    spec = info.manifest.spec
    cut = info.manifest.fingerprint.fields.get("cut", "–")
    codec = " ".join(str(value) for value in spec.codec.to_config().values())
    return [info.key, info.state, str(cut), f"{spec.samples:,} x {spec.views}", codec, stored, written]


def damage_table(directory: Path) -> Table:
    """Every finished cache of a directory read from end to end: what is damaged in it.

    Raises:
        CacheDirectoryError: there is no such directory.
    """
    rows: list[list[str]] = []
    ready = [info for info in list_caches(directory) if info.state != "building"]
    for info in ready:
        try:
            found = Cache.open(info.path).verify()
        except CacheError as error:
            rows.append([info.key, "–", "–", str(error)])
        else:
            rows.extend([info.key, str(damage.chunk), str(damage.view), damage.reason] for damage in found)
    checked = f"{len(ready)} cache{'s' * (len(ready) != 1)} checked"
    return Table(
        title=f"{directory}: {f'{len(rows)} damaged' if rows else 'nothing damaged'}",
        header=["cache", "chunk", "view", "damage"],
        rows=rows,
        note=f"{checked}; a run that reads a damaged chunk computes it again" if rows else checked,
    )
