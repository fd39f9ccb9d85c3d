"""The tables of README and docs that records in benchmarks/results give.

A page says where a table stands, and what is between the two comments is written by this script:

    <!-- table: routing -->
    <!-- /table -->

`python scripts/tables.py` writes all tables anew; with `--check` it says which differ, and ends with 1.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import codec_tables
import cost_tables
import policy_tables
from claims import RESULTS, ROOT, leaves, pages
from markdown_tables import moved, spread, table

sys.path.insert(0, str(ROOT / "benchmarks"))

from zoo import counting as zoo


def augmentation(record: Any, data: str, model: str) -> str:
    from augment_study.results import table as results  # torch comes along

    return results(record, data, model)


def examples(record: Any) -> str:
    shown = {
        "vit_of_transformers": ("mappings, keywords, the model's own loss", "1,000, 8, 3", "accuracy"),
        "vit_of_timm": ("timm's `create_transform`", "1,000, 8, 3", "accuracy"),
        "segmentation": ("masks that flip with their image, two tensors across the cut", "240, 8, 3", "mean IoU"),
        "self_supervised": ("two views of each image, labels unused", "1,000, 8, 3", "accuracy of the nearest image"),
        "detection": ("lists of images, targets, the model's losses", "240, 12, 4", "squares found"),
        "audio_frames": ("frames of 15 to 60 steps and their lengths", "400, 8, 2", "accuracy"),
        "multi_label": ("`criterion=`, rows of labels", "1,500, 8, 2", "accuracy of labels"),
        "regression": ("`criterion=`, numbers", "1,500, 8, 2", "RMSE in degrees"),
        "text_classifier": (
            "texts of 16 to 96 tokens, padded by batch, pretrained MiniLM",
            "240, 4, 1",
            "accuracy",
        ),
    }
    rows = []
    for name, told in shown.items():
        if name not in record["examples"]:
            continue
        plain, *others = record["examples"][name].values()
        decimals = 1 if name == "regression" else 3
        seconds = statistics.mean(plain["cpu_seconds"])
        row = [f"`{name}.py`", *told, f"{seconds:.1f} s, {spread(plain['figure'], decimals)}"]
        for way in others:
            ratios = [mine / whole for mine, whole in zip(way["cpu_seconds"], plain["cpu_seconds"], strict=True)]
            row.append(f"{spread(ratios, 2)}, {spread(way['figure'], decimals)}")
        rows.append(row)
    names = ["script", "shows", "samples, epochs, frozen after", "figure", "everything trains: seconds, figure"]
    return table(
        [*names, "frozen, recomputed: time of the plain loop's, figure", "frozen, cached: likewise"],
        rows,
    )


def kills(record: Any) -> str:
    rows = record["kill"]["rows"]
    return table(list(rows[0]), [[str(value) for value in row.values()] for row in rows])


def fuzz(record: Any) -> str:
    rows = [
        [row["reader"], f"{row['minutes']:g}", *(f"{row[key]:,}" for key in ("contents", "taken", "refused", "finds"))]
        for row in record
    ]
    return table(["reader", "minutes", "contents", "taken", "refused by name", "otherwise"], rows)


GPU_MODELS = {"resnet50": "ResNet-50, `layer3`", "vit_b_16": "ViT-B/16, 9 of 12 blocks"}


def gpu(record: Any) -> str:
    ways = ("full", "conventional", "cached", "resident")

    def rate(found: Any) -> str:
        said = f"{found['median']:,.0f}"
        close = found["max"] - found["min"] < 0.003 * found["median"]
        return said if close else f"{said} ({found['min']:,.0f}–{found['max']:,.0f})"

    rows = []
    for name, shown in GPU_MODELS.items():
        of = record["models"][name]
        loaded = of["loader"]["images_per_second"]
        rows.append([shown, "compute alone", *(rate(of["compute"]["images_per_second"][way]) for way in ways)])
        rows.append(["", "with a DataLoader of JPEGs", *(rate(loaded[way]) if way in loaded else "" for way in ways)])
        rows.append(["", "peak memory, GiB", *(f"{of['peak_gib'][way]:.1f}" for way in ways)])
    head = ["model, frozen up to", "", "full training", "conventional freezing", "cached", "resident"]
    return table(head, rows)


def gpu_over(record: Any) -> str:
    parts = [("full", "compute"), ("full", "loader"), ("conventional", "compute"), ("conventional", "loader")]
    rows = []
    for name, shown in GPU_MODELS.items():
        of = record["models"][name]
        ratios = [f"{of[part]['cached_over'][way]['median']:.1f}x" for way, part in parts]
        rows.append([shown.split(",")[0], *ratios, f"{of['compute']['cached_over']['resident']['median']:.2f}"])
    return table(["cached over", *(f"{way}, {part}" for way, part in parts), "resident"], rows)


def channels(record: Any) -> str:
    """Means over seeds: bytes against one view, points against live augmentation."""
    runs = record["records"]
    models = list(dict.fromkeys(run["model"] for run in runs))

    def mean(model: str, arm: str, kind: str) -> float:
        return statistics.mean(run[kind] for run in runs if (run["model"], run["arm"]) == (model, arm))

    rows = []
    for arm in dict.fromkeys(run["arm"] for run in runs):
        row = [arm]
        for model in models:
            size = mean(model, arm, "cache_bytes") / mean(model, "1 view", "cache_bytes")
            moved = [
                f"{100 * (mean(model, arm, kind) - mean(model, 'live augmentation', kind)):+.1f}"
                for kind in ("accuracy", "augmented_accuracy")
            ]
            row.append(f"{size:.2f}x, {moved[0]} / {moved[1]}")
        rows.append(row)
    return table(["stored", *(f"{model}: bytes, plain / augmented" for model in models)], rows)


def finetuning_rates(record: Any) -> str:
    rows = [
        [f"{run['rate']:g}", str(run["epochs"]), f"{100 * run['accuracy']:.2f}", f"{100 * run['augmented']:.2f}"]
        for run in sorted(record["runs"], key=lambda run: (run["epochs"], run["rate"]))
    ]
    return table(["rate", "epochs", "plain, %", "augmented, %"], rows)


def probes(record: Any) -> str:
    """Ratios and differences to the conventional twin of the same seed."""
    rows, twins = [], {(run["seed"], run["arm"]): run for run in record["runs"]}
    for arm in sorted({run["arm"] for run in record["runs"]}):
        runs = [run for run in record["runs"] if run["arm"] == arm]
        pairs = [(run, twin) for run in runs if (twin := twins.get((run["seed"], f"{arm}, conventional freezing")))]
        cells = []
        for kind in ("accuracy", "augmented"):
            cells.append(spread([100 * run[kind] for run in runs], 2))
            cells.append(moved([run[kind] - twin[kind] for run, twin in pairs]) if pairs else "")
        seconds = spread([run["process_seconds"] for run in runs], 1)
        faster = spread([twin["process_seconds"] / run["process_seconds"] for run, twin in pairs], 2) if pairs else ""
        rows.append([arm, str(len(runs)), *cells, seconds, faster])
    names = ["training", "seeds", "plain, %", "Δ to conventional", "augmented, %", "Δ to conventional"]
    return table([*names, "processor seconds, examinations included", "times faster than conventional"], rows)


def demo(record: Any, story: str) -> str:
    """Means over seeds with their spread; differences and ratios are taken seed by seed against row one."""
    runs = [run["arms"] for run in record["runs"] if run["story"] == story and not run["sizes"]]
    rows = []
    for mine in zip(*runs, strict=True):
        pairs = [(arm, arms[0]) for arm, arms in zip(mine, runs, strict=True)]
        sooner = [full["seconds"] / arm["seconds_to_full"] for arm, full in pairs if arm["seconds_to_full"]]
        stored = [sum(arm["cache_bytes"]) / 1e6 for arm in mine]
        dense = [sum(arm["dense_bytes"]) / sum(arm["cache_bytes"]) for arm in mine if arm["cache_bytes"]]
        row = [
            mine[0]["arm"],
            "/".join(sorted({str(arm["epochs"]) for arm in mine})),
            *(spread([100 * arm[kind] for arm in mine], 2) for kind in ("accuracy", "augmented")),
            *(moved([arm[kind] - full[kind] for arm, full in pairs]) for kind in ("accuracy", "augmented")),
            spread([arm["seconds"] for arm in mine], 1),
            spread([full["seconds"] / arm["seconds"] for arm, full in pairs], 2),
            f"{spread(sooner, 1)} ({len(sooner)} of {len(mine)})" if sooner else "–",
            f"{spread(stored, 1)} ({statistics.mean(dense):.1f}x)" if dense else "–",
        ]
        rows.append([f"**{cell}**" for cell in row] if row[0] == "Hoarfrost" else row)
    head = ["training", "epochs", "plain, %", "augmented, %", "Δ plain", "Δ augmented", "seconds", "times faster"]
    return table([*head, "times sooner at the first row's accuracy", "stored, MB (below fp32)"], rows)


def demo_derived(record: Any) -> list[float]:
    """Of each two arms of a story, seed by seed: ratios of seconds and differences of accuracy, with mean and spread;
    an epoch's median seconds by depth, and their ratios; ratios of bytes, and how many times fewer than in fp32; ratios
    of seconds in one run of the command."""
    found: list[float] = []

    def epochs(arms: Sequence[Any]) -> dict[str, float]:
        return {cut: statistics.median(of["epoch_seconds"][cut] for of in arms) for cut in arms[0]["epoch_seconds"]}

    for story in dict.fromkeys(run["story"] for run in record["runs"]):
        runs = [run["arms"] for run in record["runs"] if run["story"] == story]
        for one, other in itertools.permutations(zip(*runs, strict=True), 2):
            pairs = list(zip(one, other, strict=True))
            for kind in ("accuracy", "augmented"):
                values = [100 * (a[kind] - b[kind]) for a, b in pairs]
                found += [statistics.mean(values), statistics.stdev(values)]
            ratios = [a["seconds"] / b["seconds"] for a, b in pairs]
            found += [statistics.mean(ratios), statistics.stdev(ratios)]
            mine, theirs = epochs(one), epochs(other)
            found += [mine[cut] / theirs[cut] for cut in mine.keys() & theirs.keys()]
            stored = [sum(sum(of["cache_bytes"]) for of in arms) for arms in (one, other)]
            found += [stored[0] / stored[1]] if all(stored) else []
        for arm in zip(*runs, strict=True):
            found += epochs(arm).values()
            fewer = [d / c for of in arm for d, c in zip(of["dense_bytes"], of["cache_bytes"], strict=True)]
            found += [min(fewer), max(fewer)] if fewer else []
    seconds = [arm["seconds"] for story in record["make_demo"]["stories"] for arm in story["arms"]]
    return found + [one / other for one, other in itertools.permutations(seconds, 2)]


def paper(record: Any) -> str:
    """Means over seeds, with their spread."""
    rows = []
    for story, arm in dict.fromkeys((run["story"], run["arm"]) for run in record["records"]):
        mine = [run for run in record["records"] if (run["story"], run["arm"]) == (story, arm)]
        stages = {
            name: statistics.mean(run["epoch_seconds"][name] for run in mine) for name in mine[0]["epoch_seconds"]
        }
        rows.append(
            [
                story,
                arm,
                str(len(mine)),
                spread([100 * run["plain"] for run in mine], 1),
                spread([100 * run["augmented"] for run in mine], 1),
                paper_bytes(mine),
                ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.items()),
                spread([run["seconds"] for run in mine], 0),
            ]
        )
    names = ["training", "arm", "seeds", "plain, %", "augmented, %", "stored, MB (below fp32)"]
    return table([*names, "an epoch, by what is frozen, s", "in all, s"], rows)


def paper_bytes(mine: Sequence[Any]) -> str:
    """Of each freeze, over several runs."""
    stored = [
        f"{statistics.mean(one['cache_bytes'] for one in same) / 1e6:.2f} "
        f"({statistics.mean(one['dense_bytes'] / one['cache_bytes'] for one in same):.1f}x)"
        for same in zip(*(run["freezes"] for run in mine), strict=True)
        if same[0]["choice"] == "cache"
    ]
    return ", ".join(stored) or "–"


def paper_size(record: Any) -> str:
    """Beside conventional freezing of the same seed."""
    runs = record["records"]
    beside = {run["seed"]: run for run in runs if run["arm"] == "conventional"}
    rows = []
    for arm in dict.fromkeys(run["arm"] for run in runs):
        mine = [run for run in runs if run["arm"] == arm]
        cells = [arm, str(len(mine))]
        for kind in ("plain", "augmented"):
            cells.append(spread([100 * run[kind] for run in mine], 1))
            cells.append(moved([run[kind] - beside[run["seed"]][kind] for run in mine]))
        stages = [stage for stage in mine[0]["epoch_seconds"] if stage != "nothing"]
        steps = [
            f"{stage} {statistics.mean(_ratio(beside[run['seed']], run, stage) for run in mine):.2f}"
            for stage in stages
        ]
        rows.append(
            [
                *cells,
                paper_bytes(mine),
                ", ".join(steps) or "–",
                spread([beside[run["seed"]]["seconds"] / run["seconds"] for run in mine], 2),
            ]
        )
    names = ["arm", "seeds", "plain, %", "Δ", "augmented, %", "Δ", "stored, MB (below fp32)"]
    return table([*names, "times faster, an epoch", "in all"], rows)


def _ratio(one: Any, other: Any, stage: str) -> float:
    return float(one["epoch_seconds"][stage] / other["epoch_seconds"][stage])


def sweep(record: Any) -> str:
    rows = [
        [
            str(run["variants"]),
            f"`{run['cut']}`",
            f"{run['ratio']:.2f} ({run['low']:.2f}–{run['high']:.2f})",
            f"{run['alone_cpu_seconds']:.1f}",
            f"{run['swept_cpu_seconds']:.1f}",
        ]
        for run in record["runs"]
    ]
    return table(["trainings", "frozen up to", "one reading to separate ones", "separate, s", "one reading, s"], rows)


def fetching(record: Any) -> str:
    rows = []
    for name, of in record["ways"].items():
        ratio = f"{of['ratio']['median']:.2f} ({of['ratio']['low']:.2f}–{of['ratio']['high']:.2f})"
        rows.append([name, f"{of['seconds']:.1f}", f"{of['before']:.1f}", ratio if name != "built" else "1"])
    return table(["cache", "to the end of the first epoch, s", "of that before its first batch, s", "to built"], rows)


TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    **{
        f"augmentation {data} {model}": ("augmentation.json", partial(augmentation, data=data, model=model))
        for data in ("fashion", "photos")
        for model in ("resnet", "vit")
    },
    "channels": ("channels.json", channels),
    **{f"demo {name}": ("demo.json", partial(demo, story=name)) for name in ("scratch", "finetuning", "paper")},
    "examples": ("examples.json", examples),
    "examples, texts": ("examples-texts.json", examples),
    "finetuning rates": ("finetuning_rates.json", finetuning_rates),
    "fetching": ("fetching.json", fetching),
    "fuzz": ("fuzz.json", fuzz),
    "gpu": ("gpu-h200.json", gpu),
    "gpu over": ("gpu-h200.json", gpu_over),
    "kills": ("faults.json", kills),
    "probes": ("probes.json", probes),
    "paper": ("paper.json", paper),
    "paper size": ("paper-size.json", paper_size),
    "sweep": ("sweep.json", sweep),
    "zoo": ("zoo.json", lambda record: zoo.table(record["models"])),
    **codec_tables.TABLES,
    **cost_tables.TABLES,
    **policy_tables.TABLES,
}
"""By the name that a page says: the record, and what makes the table of it."""

DERIVED: dict[str, Callable[[Any], list[float]]] = {
    "demo.json": demo_derived,
    "faults.json": lambda record: [len(record["kill"]["rows"]) - 1],
    "fuzz.json": lambda record: [len(record), *(sum(row[key] for row in record) for key in ("contents", "minutes"))],
    "gpu-h200.json": lambda record: [
        of["freeze"]["cache_bytes"] / record["samples"] * rate
        for of in record["models"].values()
        for rate in (1, of["compute"]["images_per_second"]["cached"]["median"])
    ],
    "zoo.json": lambda record: zoo.told(record["models"]),
    **codec_tables.DERIVED,
    **cost_tables.DERIVED,
    **policy_tables.DERIVED,
}
"""What a text says of a record and the record does not: counts, sums, bytes of an image and bytes a second."""

_REGION = re.compile(r"^<!-- table: ([^\n]*) -->\n(.*?)^<!-- /table -->$", re.MULTILINE | re.DOTALL)


def made(name: str) -> str:
    file, function = TABLES[name]
    return function(json.loads((RESULTS / file).read_text()))


def numbers(file: str) -> list[float]:
    """What a text may say of a record: what is in it, in the tables made of it, and what is derived."""
    record = json.loads((RESULTS / file).read_text())
    tables = "\n".join(function(record) for of, function in TABLES.values() if of == file)
    shown = [float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*(?:\.\d+)?", tables)]
    return [*leaves(record), *shown, *DERIVED.get(file, lambda record: [])(record)]


def written(text: str) -> str:
    """A page with its tables as their records give them."""

    def anew(found: re.Match[str]) -> str:
        if found[1] not in TABLES:
            raise KeyError(f"no table is called {found[1]!r}: known are {', '.join(TABLES)}")
        return f"<!-- table: {found[1]} -->\n{made(found[1])}\n<!-- /table -->"

    return _REGION.sub(anew, text)


def differing() -> Iterator[tuple[str, str, str]]:
    """Pages whose tables are not those of the records: name, text as it is and as it would be."""
    for path in pages():
        text = path.read_text()
        if (new := written(text)) != text:
            yield path.relative_to(ROOT).as_posix(), text, new


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if a table differs")
    check, differs = parser.parse_args().check, False
    for page, text, new in differing():
        differs = True
        if check:
            lines = difflib.unified_diff(text.splitlines(), new.splitlines(), page, "by the records", n=0, lineterm="")
            print("\n".join(lines))
        else:
            (ROOT / page).write_text(new)
            print(f"{page} written")
    return int(check and differs)


if __name__ == "__main__":
    sys.exit(main())
