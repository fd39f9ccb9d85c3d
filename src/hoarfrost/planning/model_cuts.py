"""What the command shows: a model's cuts and their sensitivity, a directory's caches, and what is damaged in them."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..augment import Pipeline
from ..cache import Cache, CacheInfo, list_caches
from ..cuts import Cut, cuts_of, survey
from ..data import default_transforms, open_data
from ..errors import ArgumentError, CacheError
from ..models import resolve_model
from ..report import Table, format_bytes, format_count, format_percent
from .sensitivity import SHARES, CutSensitivity, examine_sensitivity

__all__ = ["ModelCuts", "ModelSensitivity", "caches_table", "damage_table"]


@dataclass(frozen=True)
class ModelCuts:
    """The cuts of a model, front to back, to be shown.

    Attributes:
        model: as it was named.
        image: channels, height and width.
        cuts: recommended ones, or every one.
        parameters: for each of them how many lie in front of it and nowhere else: what freezing there freezes.
        hidden: how many more cuts there are.
    """

    model: str
    image: tuple[int, int, int]
    cuts: tuple[Cut, ...]
    parameters: tuple[int, ...]
    hidden: int

    @classmethod
    def of(
        cls,
        model: str,
        *,
        data: str | None = None,
        channels: int | None = None,
        image_size: int | None = None,
        classes: int | None = None,
        max_tensors: int = 1,
        every: bool = False,
    ) -> ModelCuts:
        """Find them.

        Args:
            model: as in `resolve_model`.
            data: gives what of the next three is None; without data they are 3, 224 and 10.
            max_tensors: as in `find_cuts`.
            every: also those inside a block, and right behind the stem.

        Raises:
            ArgumentError: no such model or data.
            CutError: the model does not take such images.
        """
        if data is not None:
            opened = open_data(data, image_size=image_size)
            channels, image_size = channels or opened.channels, opened.image_size
            classes = classes or len(opened.classes)
        channels, image_size, classes = channels or 3, image_size or 224, classes or 10
        network = resolve_model(model, classes=classes, channels=channels, image_size=image_size)
        seen = survey(network, torch.zeros(2, channels, image_size, image_size))
        found = cuts_of(seen, max_tensors)
        shown = tuple(cut for cut in found if cut.recommended or every)
        sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
        return cls(
            model=model,
            image=(channels, image_size, image_size),
            cuts=shown,
            parameters=tuple(
                sum(
                    size
                    for name, size in sizes.items()
                    if seen.used(name, seen.ends(cut.name, cut.call)) == (True, False)
                )
                for cut in shown
            ),
            hidden=len(found) - len(shown),
        )

    @property
    def flops(self) -> int:
        """Of one image's forward pass; 0 where there is no cut."""
        return self.cuts[0].prefix_flops + self.cuts[0].suffix_flops if self.cuts else 0

    def table(self) -> Table:
        """For people."""
        inside = any(not cut.recommended for cut in self.cuts)
        counted = f": {format_count(self.flops)} FLOPs forward" if self.flops else ""
        return Table(
            title=f"{self.model} on {' x '.join(map(str, self.image))}{counted}",
            header=["no.", "cut", "features", "layout", "fp32", "FLOPs", "params"],
            rows=[
                [
                    str(cut.index),
                    ("" if cut.recommended or not inside else "· ") + cut.label,
                    " + ".join("x".join(map(str, tensor.shape or ())) for tensor in cut.tensors),
                    cut.layout,
                    format_bytes(cut.bytes_per_sample),
                    format_percent(cut.prefix_flops / self.flops if self.flops else None),
                    format_count(parameters),
                ]
                for cut, parameters in zip(self.cuts, self.parameters, strict=True)
            ],
            note=self._note(inside),
        )

    def plain(self) -> dict[str, Any]:
        """For programs: everything in units of one, as JSON takes it."""
        return {
            "model": self.model,
            "image": list(self.image),
            "flops": self.flops,
            "cuts": [
                {
                    "index": cut.index,
                    "label": cut.label,
                    "recommended": cut.recommended,
                    "layout": cut.layout,
                    "tensors": [
                        {
                            "source": tensor.source,
                            "shape": None if tensor.shape is None else list(tensor.shape),
                            "dtype": None if tensor.dtype is None else str(tensor.dtype).removeprefix("torch."),
                        }
                        for tensor in cut.tensors
                    ],
                    "bytes_per_sample": cut.bytes_per_sample,
                    "flops_in_front": cut.prefix_flops,
                    "parameters_in_front": parameters,
                }
                for cut, parameters in zip(self.cuts, self.parameters, strict=True)
            ],
            "hidden": self.hidden,
        }

    def _note(self, inside: bool) -> str:
        if not self.cuts:
            return "the model has no place where it can be divided"
        shown = "features and fp32 bytes of one image; FLOPs and parameters in front of the cut"
        verb = "lies" if self.hidden == 1 else "lie"
        more = f"{self.hidden} more {verb} inside blocks or behind the stem (--all shows them)" if self.hidden else ""
        dot = "a dot marks those inside blocks or right behind the stem" if inside else ""
        return "; ".join(filter(None, [shown, more, dot]))


@dataclass(frozen=True)
class ModelSensitivity:
    """What was measured for a model and data by name, to be shown.

    Attributes:
        model, data: as they were named.
        samples: images that were looked at.
        metric, tolerance, seed: as they were asked for.
        transform: name, kind and reason of each of its steps.
        cuts: what was measured.
    """

    model: str
    data: str
    samples: int
    metric: str
    tolerance: float
    seed: int
    transform: tuple[tuple[str, str, str], ...]
    cuts: tuple[CutSensitivity, ...]

    @classmethod
    def of(
        cls,
        model: str,
        data: str,
        *,
        weights: str | Path | None = None,
        pretrained: bool = False,
        image_size: int | None = None,
        cuts: Sequence[str] | None = None,
        metric: str = "cosine",
        samples: int = 256,
        shares: Sequence[float] = SHARES,
        ladder: str | int = "auto",
        tolerance: float = 1e-3,
        seed: int = 0,
        device: str | None = None,
        channels_last: bool = False,
        on_cut: Callable[[int, int], None] | None = None,
    ) -> ModelSensitivity:
        """Measure a model by name on training images and with the training transform, as `hoarfrost train` has them.

        Args:
            model, data, pretrained, image_size, device: as in `hoarfrost.running.config.RunConfig`.
            weights: a safetensors file of the model's state_dict, such as the model.safetensors of a run.
            cuts, metric, samples, shares, ladder, tolerance, seed, channels_last, on_cut: as in `examine_sensitivity`.

        Raises:
            ArgumentError: no such model or data, or weights that are not this model's.
            HoarfrostError: as `examine_sensitivity`.
        """
        torch.manual_seed(seed)
        opened = open_data(data, seed, image_size=image_size)
        network = resolve_model(
            model,
            classes=len(opened.classes),
            channels=opened.channels,
            pretrained=pretrained,
            image_size=opened.image_size,
        )
        if weights is not None:
            _load_weights(network, model, Path(weights))
        transform, _ = default_transforms(opened)
        network = network.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
        if channels_last:
            network = network.to(memory_format=torch.channels_last)
        examined = examine_sensitivity(
            network,
            opened.train,
            transform=transform,
            cuts=cuts,
            metric=metric,
            samples=samples,
            shares=shares,
            ladder=ladder,
            tolerance=tolerance,
            seed=seed,
            channels_last=channels_last,
            on_cut=on_cut,
        )
        return cls(
            model=model,
            data=opened.name,
            samples=min(samples, len(opened.train)),  # type: ignore[arg-type]
            metric=metric,
            tolerance=tolerance,
            seed=seed,
            transform=tuple((s.name, s.kind, s.reason) for s in Pipeline.from_transform(transform).steps),
            cuts=tuple(examined),
        )

    @property
    def described(self) -> list[str]:
        """The transform's steps, one line each that draws something and one for the rest."""
        lines = [f"{name}: {kind}, {reason}" for name, kind, reason in self.transform if kind != "deterministic"]
        fixed = [name for name, kind, _ in self.transform if kind == "deterministic"]
        return [*lines, *([f"{', '.join(fixed)}: deterministic"] if fixed else [])]

    def plain(self) -> dict[str, Any]:
        """For programs, and for `hoarfrost.report`: as JSON takes it."""
        return {
            "model": self.model,
            "data": self.data,
            "samples": self.samples,
            "metric": self.metric,
            "tolerance": self.tolerance,
            "seed": self.seed,
            "transform": [{"name": name, "kind": kind, "reason": reason} for name, kind, reason in self.transform],
            "cuts": [cut.plain() for cut in self.cuts],
        }


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
    codec = " ".join(str(value) for value in spec.codec.to_config().values() if isinstance(value, str | int))
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


def _load_weights(network: nn.Module, name: str, path: Path) -> None:
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ArgumentError(f"the weights {path} cannot be read as safetensors: {error}") from error
    except RuntimeError as error:
        # Its first line names the class alone, the second all that is missing.
        found = textwrap.shorten(" ".join(str(error).splitlines()[1:]), 160, placeholder=" ...")
        raise ArgumentError(f"the weights in {path} are not those of {name}: {found}") from error
