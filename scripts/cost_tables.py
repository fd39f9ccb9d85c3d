"""Tables of what things cost: reading, building, calls, starting."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from markdown_tables import ranged, spread, table

MODELS = {"cifar_resnet": "small ResNet", "small_vit": "small ViT", "efficientnet_lite0": "EfficientNet-Lite0"}


def reading(record: Any) -> str:
    rows = [
        [
            f"{MODELS[of['model']]}, {of['size']}",
            f"`{of['cut'].removeprefix('encoder.layers.')}`",
            "x".join(map(str, of["features"])),
            f"{of['samples']:,}",
            f"`{of['codec']}`",
            *(ranged(of[f"{way}_clock"], 2) for way in ("memory", "disk", "capped")),
        ]
        for of in record["rows"]
    ]
    ways = ["in memory", "on disk", "a quarter, no page cache"]
    return table(["model, pixels", "cut", "features", "images", "codec", *ways], rows)


def stores(record: Any) -> str:
    shown = {
        "hoarfrost": "Hoarfrost",
        "tensorstore": "TensorStore (zarr3, zstd)",
        "zarr": "zarr-python (zstd)",
        "blosc2": "blosc2 (zstd)",
        "memmap": "fp32 by `numpy.memmap`",
        "files": "fp32, one `torch.save` file a sample",
    }
    rows = []
    for name, told in shown.items():
        places = [row for row in record["rows"] if row["store"] == name]
        gains = ", ".join(f"{row['gain']['median']:.2f}" for row in places) if name != "hoarfrost" else ""
        sizes = ", ".join(f"{row['below_fp32']:.1f}x" for row in places)
        rows.append([told, *(ranged(row["gb_per_second"], 2) for row in places), gains, sizes, places[0]["checks"]])
    names = list(dict.fromkeys(row["features"] for row in record["rows"]))
    speeds = [f"`{name}`, GB/s of fp32" for name in names]
    return table(["store", *speeds, "Hoarfrost is faster by", "below fp32", "checks"], rows)


def shuffling(record: Any) -> str:
    rows = [
        [
            of["chunks"],
            "all" if of["window"] == of["of"] else str(of["window"]),
            *(f"{100 * of[kind]:.1f} %" for kind in ("one_chunk", "one_class")),
            spread(of["accuracy"], 2),
        ]
        for of in record["rows"]
    ]
    return table(
        ["chunks", "window", "pairs of a batch from one chunk", "neighbours of one class", "accuracy, %"], rows
    )


def building(record: Any) -> str:
    rows = [
        [
            MODELS[of["model"]],
            f"`{of['cut']}`",
            f"{of['samples']:,}",
            f"{of['build_seconds']:.2f}",
            *(ranged(of[f"against_{other}"], 2) for other in ("rendering", "prefix")),
        ]
        for of in record["passes"]
    ]
    return table(["model", "cut", "images", "seconds", "to rendering and prefix", "to the prefix alone"], rows)


def building_onward(record: Any) -> str:
    rows = []
    for of in record["onward"]:
        fed = of["kl_features"] is not None
        cells = [ranged(of["ratio"], 2), f"{of['kl_features']:.1e}"] if fed else ["–", "built from images"]
        rows.append(
            [MODELS[of["model"]], " to ".join(f"`{cut}`" for cut in of["cuts"]), f"{of['kl_images']:.1e}", *cells]
        )
    head = ["model", "from, to", "KL, from images", "time from features to from images", "KL, from features"]
    return table(head, rows)


def planning(record: Any) -> str:
    rows = [
        [
            MODELS[of["model"]],
            f"`{of['cut'].removeprefix('encoder.layers.')}`",
            str(of["ladder"]),
            *(f"{of[kind]:.2f}" for kind in ("full", "recompute", "read", "build", "bytes")),
            f"{of['probe']} of {of['samples']:,}",
        ]
        for of in record["rows"]
    ]
    kinds = ["full epoch", "recomputing", "reading", "building", "bytes"]
    return table(["model", "cut", "ladder", *kinds, "probe of all"], rows)


def planning_derived(record: Any) -> list[float]:
    """By how much a prediction may be off, and how many of each kind are off by less."""
    kinds, most = ("full", "recompute", "read", "build", "bytes"), 0.15
    return [most, *(sum(abs(of[kind] - 1) <= most for of in record["rows"]) for kind in kinds)]


def layouts(record: Any) -> str:
    rows = [
        [name, *(ranged(record[kind][name], 3) for kind in ("trained", "drawn"))]
        for name in record["trained"]
        if name != "pairs"
    ]
    return table(["items", "an epoch of training", "only drawing batches"], rows)


def starting(record: Any) -> str:
    """The slowest of the commands' helps stands for all of them."""
    median = {name: statistics.median(values) for name, values in record["seconds"].items()}
    helps = [name for name in median if name.endswith("--help") and name != "hoarfrost --help"]
    slowest = max(helps, key=median.__getitem__)
    base = "import torch, torchvision"
    shown = {
        "hoarfrost --help": "`hoarfrost --help`",
        slowest: f"each command's `--help`, the slowest of {len(helps)}",
        **{name: f"`{name}`" for name in median if name.startswith("import")},
    }
    rows = []
    for name, told in shown.items():
        values = record["seconds"][name]
        beyond = f"{median[name] - median[base]:+.2f}" if name.startswith(f"{base}, ") else ""
        rows.append([told, *(f"{value:.2f}" for value in (median[name], min(values), max(values))), beyond])
    return table(["process", "processor seconds", "from", "to", "beyond torch and torchvision"], rows)


def lengths(record: Any) -> str:
    rows = [
        [
            name,
            f"{of['bytes a token']:.0f}",
            *(f"{100 * of[f'padding {where}']:.0f} %" for where in ("before", "behind")),
            f"{of['outputs differ by']:.1e}" if of["outputs differ by"] else "0",
            f"{of['ms a batch']:.1f}",
        ]
        for name, of in record["texts"].items()
    ]
    head = ["texts", "bytes a token", "padding before", "padding behind the freeze", "outputs differ by", "ms a batch"]
    return table(head, rows)


def lengths_derived(record: Any) -> list[float]:
    """How many times fewer bytes a token and milliseconds a batch."""
    one, other = record["texts"].values()
    return [one[kind] / other[kind] for kind in ("bytes a token", "ms a batch")]


def layer_differences(record: Any) -> str:
    """The least and the most of all pairs that are as far apart."""
    told = {
        "MiniLM": "MiniLM, which normalises behind each addition",
        "Lite0": "EfficientNet-Lite0, blocks that add to their input",
    }
    apart = {1: "neighbours", 2: "two apart", 3: "three apart", 4: "four apart"}
    rows = []
    for model, shown in told.items():
        for way, factor in (("fitted", "a factor for each channel"), ("plain", "one")):
            row = [shown if way == "fitted" else "", factor]
            for far in apart:
                shares = [
                    100 * of[way]
                    for of in record["rows"]
                    if of["model"] == model and of["later"] - of["earlier"] == far
                ]
                row.append(f"{min(shares):.0f} to {max(shares):.0f}" if shares else "")
            rows.append(row)
    return table(["", "earlier layer times", *apart.values()], rows)


def routing(record: Any) -> str:
    shown = {
        ("resnet18", "frozen"): (
            "ResNet-18, 64 px",
            "a step behind the freeze, `model(features)` to `freezer(features)`",
        ),
        ("resnet18", "whole"): ("ResNet-18, 64 px", "a whole forward in eval, to a model without a Freezer"),
        ("vit", "frozen"): ("ViT of 6 blocks, 32 px", "a step behind the freeze"),
        ("vit", "whole"): ("ViT of 6 blocks, 32 px", "a whole forward in eval"),
    }
    rows = []
    for (model, kind), told in shown.items():
        of = record["routing"][model][kind]
        rows.append([*told, ranged(of, 3), f"{of['ms']:.0f}"])
    return table(["model", "what", "ratio", "ms"], rows)


def doors(record: Any) -> str:
    rows = [[name, ranged(of, 3), f"{of['step_ms']:.1f}", str(of["turns"])] for name, of in record.items()]
    return table(["door", "to a Freezer made by hand", "a step, ms", "turns"], rows)


TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "building": ("build.json", building),
    "building onward": ("build.json", building_onward),
    "doors": ("doors.json", doors),
    "layer differences": ("layer_differences.json", layer_differences),
    "layouts": ("batches.json", layouts),
    "lengths": ("lengths.json", lengths),
    "planning": ("plan.json", planning),
    "reading": ("cache_epoch.json", reading),
    "routing": ("routing.json", routing),
    "shuffling": ("cache_shuffle.json", shuffling),
    "starting": ("startup.json", starting),
    "stores": ("cache_libraries.json", stores),
}
"""By the name that a page says: the record, and what makes the table of it."""

DERIVED: dict[str, Callable[[Any], list[float]]] = {
    "lengths.json": lengths_derived,
    "plan.json": planning_derived,
}
"""What a text says of a record and the record does not."""
