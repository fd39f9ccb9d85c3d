"""What a cache would hold at each cut, before anything is frozen: channels' sensitivity, codec, bytes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..cache import CacheSpec, StoredView
from ..codecs import Codec, Exact, Ladder, RungMeasure
from ..cuts import Cut, divide, find_cut, hooks_apart, require_cuts
from ..errors import ArgumentError
from ..freezing import Division
from ..samples import OnDevice, Samples, TrainingData, device_of
from ..settings import Selection, Storing, Views
from ..storing import Calibration, calibrate, choose_stored, pick, storable, why_not_derived
from .examined_images import ExaminedImages

__all__ = ["SHARES", "CutSensitivity", "StoredShare", "examine_sensitivity"]

SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)
"""Of the channels of a further view, as they are looked at by default."""


@dataclass(frozen=True)
class StoredShare:
    """What a further view stores when it is to store the most sensitive share of the channels.

    Attributes:
        share: as it was asked for, from 0 to 1.
        channels: those stored, ascending. One at least, the most sensitive; all of them where deriving the rest would
            save too little, or is not possible.
        bytes_per_sample: of these channels, encoded; the mean over the images.
    """

    share: float
    channels: tuple[int, ...]
    bytes_per_sample: float


@dataclass(frozen=True, eq=False)
class CutSensitivity:
    """What was measured at one cut.

    Attributes:
        cut: where.
        sensitivity: [C] float32: how far each channel of a further view is from what would be derived for it; None
            where nothing can be derived.
        reason: why it is None.
        steps: for each random step of the transform the same [C], where two renditions differ in that step alone
            and no other moves the image.
        border: what derived features show where the base view has none; None where nothing can be derived.
        rung: the ladder's rung that a freeze would take: codec, harm, bytes of a sample.
        further: what a further view stores, for each share.
    """

    cut: Cut
    sensitivity: Tensor | None
    reason: str | None
    steps: Mapping[str, Tensor]
    border: str | None
    rung: RungMeasure
    further: tuple[StoredShare, ...]

    @property
    def base_bytes(self) -> float:
        """Bytes of a sample in the base view, which stores all channels."""
        return self.rung.bytes_per_sample

    def plain(self) -> dict[str, Any]:
        """For programs: as JSON takes it."""
        return {
            "cut": self.cut.label,
            "index": self.cut.index,
            "features": list(self.cut.shape),
            "layout": self.cut.layout,
            "codec": str(self.rung.codec),
            "harm": self.rung.harm,
            "dense_bytes_per_sample": 4 * prod(self.cut.shape),
            "base_bytes_per_sample": self.base_bytes,
            "border": self.border,
            "reason": self.reason,
            "sensitivity": None if self.sensitivity is None else self.sensitivity.tolist(),
            "steps": {name: values.tolist() for name, values in self.steps.items()},
            "further": [
                {
                    "share": stored.share,
                    "channels": list(stored.channels),
                    "bytes_per_sample": stored.bytes_per_sample,
                }
                for stored in self.further
            ],
        }


def examine_sensitivity(
    model: nn.Module,
    dataset: Dataset[Any],
    *,
    transform: Callable[[Any], Any] | None = None,
    cuts: Sequence[str | int] | None = None,
    metric: str = "cosine",
    samples: int = 256,
    shares: Sequence[float] = SHARES,
    ladder: str | int | Codec | Ladder | Sequence[int | Codec] = "auto",
    tolerance: float = 1e-3,
    seed: int = 0,
    device: str | torch.device | None = None,
    channels_last: bool = False,
    on_cut: Callable[[int, int], None] | None = None,
) -> list[CutSensitivity]:
    """How sensitive each channel is at each cut, and what views would store of them.

    Nothing is frozen, trained or stored; model and data set are left as they are. The numbers are those that a
    freeze goes by (`hoarfrost.storing.calibration.calibrate`), means over parts of 64 images.

    Args:
        model, dataset, transform: as for `Freezer`.
        cuts: labels or indices; None: the recommended ones.
        metric: "cosine", "ssim", "psnr", "relative", "energy" or "harm", see `hoarfrost.sensitivity`.
        samples: images that are looked at, drawn from the data set.
        shares: of the channels, from 0 to 1: for each it is said what a further view stores.
        ladder, tolerance, device, channels_last: as for `Freezer`.
        seed: of the images that are looked at and of their renditions.
        on_cut: called with how many cuts are done and how many there are.

    Returns:
        One for each cut, from the front to the back.

    Raises:
        ArgumentError: the transform draws nothing at random; an unknown metric or ladder; a share out of range.
        NoCutError, UnknownCutError: the model has no cut, or none of that name.
        DatasetError, UnstableDataError, ImageShapeError, NonFiniteError: the data cannot be trained on as they are.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise ArgumentError(f"samples must be a whole number of at least 2, not {samples!r}")
    views, rungs = Views(2, metric=metric), Ladder.of(ladder)
    selections = [Selection(share=share) for share in shares]
    where = torch.device(device) if device is not None else device_of(model)
    storing = Storing(views=views, ladder=rungs, tolerance=tolerance, mode="cache")
    with closing(Samples(dataset, transform)) as data:
        if not data.pipeline.is_random:
            steps = ", ".join(step.name for step in data.pipeline.steps) or "no step at all"
            raise ArgumentError(
                f"the transform draws nothing at random ({steps}), so that all renditions of an image are alike and "
                "there is no sensitivity to measure; hand over the transform that you train with"
            )
        images = ExaminedImages(data, min(samples, len(data)), seed, OnDevice(where, channels_last))
        found = storable(require_cuts(model, images.example))
        wanted = [find_cut(found, name) for name in cuts] if cuts is not None else _recommended(found)
        wanted = sorted(set(wanted), key=lambda cut: cut.index)
        examined = []
        for number, cut in enumerate(wanted):
            if on_cut is not None:
                on_cut(number, len(wanted))
            with hooks_apart(model):
                examined.append(_examine(model, cut, images, storing, selections))
        return examined


def _recommended(cuts: Sequence[Cut]) -> list[Cut]:
    return [cut for cut in cuts if cut.recommended] or list(cuts)


def _examine(
    model: nn.Module, cut: Cut, images: ExaminedImages, storing: Storing, selections: Sequence[Selection]
) -> CutSensitivity:
    prefix, suffix = divide(model, cut, images.example)
    prefix.eval()
    division = Division(cut, prefix, suffix, event=0)

    def measure(parts: Sequence[TrainingData], storing: Storing) -> list[Calibration]:
        found: list[Calibration] = []
        for part in parts:
            # What the first part did not try has no mean.
            found.append(calibrate(division, part, storing, first_tokens=not found))
            storing = replace(storing, ladder=Ladder([rung.codec for rung in found[0].rungs]))
        return found

    measured = measure(images.parts, storing)
    rung = pick(_mean_rungs([found.rungs for found in measured], storing.tolerance), storing.tolerance, 0)
    sensitivity = _mean([found.sensitivity for found in measured])
    steps = list(images.random_steps) if sensitivity is not None else []
    alone = {
        # The only random step is alone already; for the others no rung is chosen, so one that does nothing will do.
        name: sensitivity
        if len(steps) == 1
        else _mean([found.sensitivity for found in measure(images.alone(position), replace(storing, ladder=Exact()))])
        for name, position in steps
    }
    spec = replace(measured[0].spec, codec=rung.codec, stored=(StoredView(),))
    base = [part.source(prefix).features(0, part.renditions.view(0, 0))[0] for part in images.parts]
    return CutSensitivity(
        cut=cut,
        sensitivity=sensitivity,
        reason=why_not_derived(cut, images.parts[0]),
        steps={name: values for name, values in alone.items() if values is not None},
        border=None if sensitivity is None else statistics.mode(found.way.border for found in measured),
        rung=rung,
        further=tuple(_stored(selection, sensitivity, base, spec, rung) for selection in selections),
    )


def _mean(measured: Sequence[Tensor | None]) -> Tensor | None:
    known = [values for values in measured if values is not None]
    return torch.stack(known).mean(0) if known else None


def _mean_rungs(measured: Sequence[Sequence[RungMeasure]], tolerance: float) -> list[RungMeasure]:
    """Each rung with its mean harm and bytes over the parts; refused by one part, it is refused."""
    means = []
    for rungs in zip(*measured, strict=True):
        harm = statistics.fmean(rung.harm for rung in rungs)
        means.append(
            replace(
                rungs[0],
                harm=harm,
                bytes_per_sample=statistics.fmean(rung.bytes_per_sample for rung in rungs),
                ratio=statistics.harmonic_mean([rung.ratio for rung in rungs]),
                within_tolerance=harm <= tolerance,
                refused=next((rung.refused for rung in rungs if rung.refused is not None), None),
            )
        )
    return means


def _stored(
    selection: Selection, sensitivity: Tensor | None, base: Sequence[Tensor], spec: CacheSpec, rung: RungMeasure
) -> StoredShare:
    """What a freeze would store of a further view, measured on the base view, a rendition like any other.

    Args:
        base: [n, ...], its features, part by part.
    """
    every, share = tuple(range(spec.channels)), float(selection.share or 0)
    if sensitivity is None:
        return StoredShare(share, every, rung.bytes_per_sample)
    views = Views(2, selection)
    # Neither derived features nor harm count where channels are stored as they are, by their share.
    choices = [
        choose_stored(part, part, spec, sensitivity, views, len(part), math.inf, lambda shown: 0.0) for part in base
    ]
    channels = choices[0].stored.channels
    nbytes = statistics.fmean(choice.bytes_per_sample for choice in choices)
    return StoredShare(share, every if channels is None else channels, nbytes)
