"""A cache that is fetched from a URL against one that is built again.

Measures: wall seconds from a freeze on to the end of its first epoch, nothing trained: (a) built from images, (b)
fetched from `file://` and (c) from `memory://`, where it was published before, each into an empty directory; of that
what came before the first batch (calibration; building, or taking a copy without its features), and a second epoch,
which reads the local store. Processor seconds of this process, all threads together, stand beside them.
On: images of 224 pixels with the spectrum of photographs, in memory; EfficientNet-Lite0 with its weights, 8 bits, one
thread. The URLs lie on this machine: what a network takes comes on top.
Repeats: `--turns` of all in turn, after one that is not counted; medians, and ratios to (a) of the same turn with the
least and the largest.

    python benchmarks/fetching.py --samples 512 --turns 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.data import photo_like
from hoarfrost.models import efficientnet_lite0

TRANSFORM = v2.Compose(
    [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([127 / 255] * 3, [128 / 255] * 3)]
)


def run(options: argparse.Namespace, data: Any, cache_dir: str, local_dir: str | None) -> dict[str, float]:
    """Seconds of what lies between a freeze and the end of the second epoch on its features."""
    data.transform = TRANSFORM
    torch.manual_seed(0)
    model = efficientnet_lite0(10)
    told: dict[str, Any] = {"views": 1, "mode": "cache", "ladder": 8, "verbose": False, "memory_budget": 0}
    where = {"cache_dir": cache_dir, "local_dir": local_dir, "policy": {0: options.cut}}
    wall, processor = time.perf_counter(), time.process_time()
    with Freezer(model, data, batch_size=32, epochs=99, **told, **where) as freezer:
        freezer.decide(store=True)
        begun = time.perf_counter()
        for _ in freezer.batches(0):
            pass
        first, used = time.perf_counter(), time.process_time()
        freezer.end_epoch()
        again = time.perf_counter()
        for _ in freezer.batches(1):
            pass
        assert freezer.cache is not None
        return {
            "seconds": first - wall,
            "before": begun - wall,
            "cpu_seconds": used - processor,
            "second_epoch": time.perf_counter() - again,
            "bytes": freezer.cache.nbytes,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--cut", default="blocks.9")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--note", help="what else the machine did, for the record")
    parser.add_argument("--out", type=Path, help="a JSON file with all the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = photo_like(options.samples, options.pixels)
    turns: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        urls = {"file://": f"file://{folder}/far", "memory://": "memory://fetching"}
        for url in urls.values():
            run(options, data, url, f"{folder}/published")
        for number in range(options.turns + 1):
            ways: dict[str, Callable[[str], dict[str, float]]] = {
                "built": lambda new: run(options, data, new, None),
                **{name: lambda new, url=url: run(options, data, url, new) for name, url in urls.items()},  # type: ignore[misc]
            }
            found = {}
            for name, way in ways.items():
                with tempfile.TemporaryDirectory(dir=folder) as new:
                    found[name] = way(new)
            turns += [found] if number else []
    ways_found = {}
    for name in turns[0]:
        ratios = [turn[name]["seconds"] / turn["built"]["seconds"] for turn in turns]
        of_cpu = [turn[name]["cpu_seconds"] / turn["built"]["cpu_seconds"] for turn in turns]
        ways_found[name] = {
            **{field: statistics.median(turn[name][field] for turn in turns) for field in turns[0][name]},
            "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
            "cpu_ratio": {"median": statistics.median(of_cpu), "low": min(of_cpu), "high": max(of_cpu)},
        }
    told = {name: value for name, value in vars(options).items() if name != "out"}
    print("| cache | to the first epoch's end, s | before its first batch, s | second epoch, s | to built |")
    print("|---|---|---|---|---|")
    for name, of in ways_found.items():
        print(
            f"| {name} | {of['seconds']:.1f} | {of['before']:.1f} | {of['second_epoch']:.2f} | "
            f"{of['ratio']['median']:.2f} |"
        )
    if options.out is not None:
        options.out.write_text(json.dumps({**told, "ways": ways_found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
