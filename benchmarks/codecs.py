"""What each codec makes of real features: bytes, harm to the model's outputs, error, and speed.

Measures, at each recommended cut: bytes below fp32, the mean KL divergence of the frozen suffix's softmax outputs from
those on exact features, the relative error of the features, and GB/s of fp32 features that one core encodes and
decodes (to floats in memory, checksums included). Families of one parameter (`Shared` with its bits on all channels
alike and weighted, ZFP by pixels of one channel and over all four axes, SZ3) are taken at the setting of fewest bytes
with KL <= `--tolerance`, found by bisection, and those that know no channels at the setting of the model's first cut
too; of the others each member is measured, and so is zfp over four axes at fixed tolerances, 100 being that of the
paper's code.
On: the demo's ResNet, and one of twice its width, after six epochs on `--training` of the embedded images, test images;
EfficientNet-Lite0 with its own ImageNet classifier, random square crops at 224 pixels of the 13 photos in
scikit-image's wheel; DINOv2's small vision transformer on such crops at 112 pixels, with a classifier that was fitted
to tell the photo. Chunks of 64, NCHW.
Repeats: harm and bytes are those of `--samples` images. Speed: all codecs of a cut in turn, `--repeats` times; median,
with the least and the largest. One thread, and its own processor seconds, since the machine may have other work.
Records of other cuts that `--out` holds are kept.

    python benchmarks/codecs.py --page docs/codecs-measured.md
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from codec_study.page import page
from codec_study.rivals import Sz3, Zfp
from codec_study.subjects import MODELS, Features, features
from hoarfrost.codecs import (
    ZFP,
    BFloat16,
    Codec,
    Exact,
    Half,
    Ladder,
    Linear,
    RungMeasure,
    Shared,
    dequantise,
    measure_rungs,
)
from hoarfrost.running import describe_machine
from hoarfrost.storing.channel_weights import channel_weights

CHUNK = 64
SINGLE: tuple[Codec, ...] = (Exact(), Half(), BFloat16(), *(Linear(bits) for bits in range(8, 1, -1)))
OF_THE_PAPER: tuple[Codec, ...] = tuple(ZFP(tolerance) for tolerance in (0.1, 1.0, 10.0, 100.0))
"""With blocks over samples, channels, rows and columns, one tolerance at all depths: the last is its authors' own."""


def families(subject: Features) -> list[Ladder]:
    """Each from gentle to strong: long enough to be bisected."""
    shares = [0.002 * 2 ** (step / 8) for step in range(120)]
    shared = Ladder([Shared(levels) for levels in range(256, 1, -1)])
    weights = channel_weights(subject.suffix, subject.values, subject.cut.channel_axis)
    found = [shared, *([] if weights is None else [shared.weighted(weights)])]
    if find_spec("zfpy"):
        found.append(Ladder([Zfp(share) for share in shares]))
        found.append(Ladder([ZFP(2.0**power) for power in range(-10, 11)]))  # only powers of two make a difference
    if find_spec("pysz"):
        found.append(Ladder([Sz3(share) for share in shares]))
    return found


@dataclass(frozen=True)
class Found:
    """A codec measured at a cut.

    Attributes:
        chosen: as the strongest of its family within the tolerance.
        of: the earlier cut that it was chosen at, if it was not chosen here.
    """

    rung: RungMeasure
    chosen: bool = False
    of: str | None = None


def within(subject: Features, tolerance: float, first: Mapping[str, Sequence[Codec]]) -> list[Found]:
    """Each single codec, then the strongest member of each family that keeps to the tolerance, and those that did so at
    the first cut, by its label."""

    def measured(ladder: Ladder) -> list[RungMeasure]:
        return measure_rungs(
            subject.suffix, subject.values, ladder, subject.cut.channel_axis, tolerance, chunk_size=CHUNK
        )

    single = (*SINGLE, *(OF_THE_PAPER if ZFP.is_installed() else ()))
    found = [Found(rung) for codec in single for rung in measured(Ladder([codec]))]
    for family in families(subject):
        kept = [rung for rung in measured(family) if rung.within_tolerance]
        found += [Found(rung, chosen=True) for rung in kept[-1:]]
    for label, codecs in first.items():
        found += [Found(rung, of=label) for codec in codecs for rung in measured(Ladder([codec]))]
    return [one for one in found if one.rung.refused is None]


def speeds(subject: Features, codecs: Sequence[Codec], repeats: int) -> list[tuple[list[float], list[float]]]:
    """GB/s of fp32 features encoded and decoded, one entry a repeat; the codecs by turns."""
    chunk, axis = subject.values[:CHUNK], subject.cut.channel_axis
    payloads = [codec.encode(chunk, axis) for codec in codecs]
    out, gigabytes = torch.empty_like(chunk), chunk.numel() * 4e-9
    found: list[tuple[list[float], list[float]]] = [([], []) for _ in codecs]
    for repeat in range(-1, repeats):
        for codec, payload, (encoded, decoded) in zip(codecs, payloads, found, strict=True):
            began = time.thread_time()
            codec.encode(chunk, axis)
            between = time.thread_time()
            packed = codec.unpack(payload, chunk.shape, chunk.dtype, axis)
            dequantise(packed.values, packed.scale, packed.low, packed.dtype, packed.channel_axis, out)
            ended = time.thread_time()
            if repeat >= 0:  # the first turn warms up
                encoded.append(gigabytes / (between - began))
                decoded.append(gigabytes / (ended - between))
    return found


def error_of(subject: Features, codec: Codec) -> float:
    """Of the features, relative to their norm."""
    chunk, axis = subject.values[:CHUNK], subject.cut.channel_axis
    decoded = codec.decode(codec.encode(chunk, axis), chunk.shape, chunk.dtype, axis)
    return float((decoded - chunk).norm() / chunk.norm())


def measure(
    subject: Features, tolerance: float, repeats: int, first: dict[str, Sequence[Codec]]
) -> list[dict[str, Any]]:
    """One record a codec; of a model's first cut `first` is filled with what it chose."""
    found = within(subject, tolerance, first)
    if not first:
        chosen = [one.rung.codec for one in found if one.chosen]
        first[subject.cut.label] = [codec for codec in chosen if not (isinstance(codec, Shared) and codec.finer)]
    timed = speeds(subject, [one.rung.codec for one in found], repeats)
    return [
        {
            "model": subject.model,
            "cut": subject.cut.label,
            "index": subject.cut.index,
            "shape": list(subject.cut.shape),
            "samples": len(subject.values),
            "codec": one.rung.codec.to_config(),
            "chosen": one.chosen,
            "of": one.of,
            "below_fp32": one.rung.ratio,
            "kl": one.rung.harm,
            "relative_error": error_of(subject, one.rung.codec),
            "within": one.rung.harm <= tolerance,
            "encode_gb_s": [statistics.median(encoded), min(encoded), max(encoded)],
            "decode_gb_s": [statistics.median(decoded), min(decoded), max(decoded)],
        }
        for one, (encoded, decoded) in zip(found, timed, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(MODELS), help="may be given more than once")
    parser.add_argument("--cut", action="append", default=[], help="these instead of all recommended; more than once")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--training", type=int, default=4_000, help="images that the ResNet is trained on")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--smoke", action="store_true", help="one cut of the ResNet, a few images")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/codecs.json"))
    parser.add_argument("--note", default="", help="a sentence for the page: on what it was measured")
    parser.add_argument("--page", type=Path, help="write the documentation's page here")
    options = parser.parse_args()
    if options.smoke:
        options.model, options.cut = ["cifar_resnet"], ["layer3"]
        options.samples, options.training, options.repeats = 64, 128, 2
    torch.set_num_threads(1)
    told = {"repeats": options.repeats, "tolerance": options.tolerance, "training": options.training}
    told |= {"machine": describe_machine(), "note": options.note}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    records = json.loads(options.out.read_text())["records"] if options.out.exists() else []
    for model in options.model or MODELS:
        first: dict[str, Sequence[Codec]] = {}
        for subject in features(model, options.cut, options.samples, options.training):
            found = measure(subject, options.tolerance, options.repeats, first)
            for record in found:
                print(
                    f"{model} {record['cut']}: {record['codec']} {record['below_fp32']:.2f}x, KL {record['kl']:.1e}, "
                    f"decode {record['decode_gb_s'][0]:.1f} GB/s",
                    flush=True,
                )
            place = (model, subject.cut.label)
            records = [record for record in records if (record["model"], record["cut"]) != place] + found
            records.sort(key=lambda record: (record["model"], record["index"]))
            options.out.write_text(json.dumps({"told": told, "records": records}, indent=1))
    if options.page is not None:
        options.page.write_text(page(told, records))


if __name__ == "__main__":
    main()
