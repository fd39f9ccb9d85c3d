"""What reading costs: an epoch on the cache against the suffix alone on resident random tensors.

Measures: wall seconds of one training epoch, (a) from the cache through `Freezer.batches`, (b) over random features of
the same shapes that lie in memory, same batch sizes, same suffix, same optimizer. In turn, a b a b ...; the ratio a/b
is taken pair by pair. Beside it: bytes on disk against fp32 of the same views, and the harm of the rung in use.
On: the demo's two models at the cuts they freeze, embedded images.
Repeats: `--repeats` pairs (5 by default) after one uncounted pair.

    python benchmarks/cache_epoch.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hoarfrost import Freezer
from hoarfrost.demo import finetuning, from_scratch
from hoarfrost.demo.arms import Bench

CASES: dict[str, tuple[Callable[..., tuple[Bench, list[object]]], tuple[str, ...]]] = {
    "cifar_resnet": (from_scratch, ("layer1", "layer2")),
    "efficientnet_lite0": (finetuning, ("blocks.4", "blocks.9", "top")),
}


def epoch_seconds(
    freezer: Freezer, optimizer: torch.optim.Optimizer, batches: Iterable[tuple[Tensor, Tensor]]
) -> float:
    """Train over the batches once; wall seconds."""
    began = time.perf_counter()
    for inputs, targets in batches:
        optimizer.zero_grad()
        F.cross_entropy(freezer(inputs), targets).backward()
        optimizer.step()
    return time.perf_counter() - began


def resident(features: Tensor, targets: Tensor, sizes: Iterable[int]) -> Iterable[tuple[Tensor, Tensor]]:
    """Batches of the given sizes, cut from one tensor in memory."""
    return zip(features.split(tuple(sizes)), targets.split(tuple(sizes)), strict=True)


def measure(bench: Bench, cut: str, repeats: int) -> dict[str, object]:
    """Ratios for one cut of one model, and what its cache holds."""
    torch.manual_seed(0)
    model = bench.make_model()
    if bench.channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    with tempfile.TemporaryDirectory() as folder:
        freezer = Freezer(
            model,
            bench.train_set,
            batch_size=bench.batch_size,
            epochs=100,
            transform=bench.train_transform,
            policy={0: cut},
            optimizer=optimizer,
            mode="cache",
            cache_dir=folder,
            channels_last=bench.channels_last,
        )
        model.train()
        warm = list(freezer.batches(0))
        like = warm[0][0]
        total = sum(len(targets) for _, targets in warm)
        features = torch.rand(total, *like.shape[1:])
        if bench.channels_last and features.dim() == 4:
            features = features.contiguous(memory_format=torch.channels_last)
        targets = torch.cat([targets for _, targets in warm])
        sizes = [len(targets) for _, targets in warm]
        del warm
        pairs = []
        for repeat in range(repeats + 1):
            cached = epoch_seconds(freezer, optimizer, freezer.batches(repeat + 1))
            alone = epoch_seconds(freezer, optimizer, resident(features, targets, sizes))
            pairs.append((cached, alone))
        ratios = [cached / alone for cached, alone in pairs[1:]]
        record = next(record for record in freezer.history if record["event"] == "freeze")
        freezer.close()
    rung = next(rung for rung in record["rungs"] if rung["chosen"])
    return {
        "cut": cut,
        "features": list(like.shape[1:]),
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "cached_seconds": statistics.median(cached for cached, _ in pairs[1:]),
        "codec": rung["codec"],
        "kl": rung["kl"],
        "below_fp32": record["dense_bytes"] / record["cache_bytes"],
        "build_seconds": record["build_seconds"],
        "prefix_seconds": record["prefix_seconds"],
        "read_seconds": record["read_seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, help="training images, instead of each story's own")
    parser.add_argument("--model", choices=[*CASES, "all"], default="all")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/cache_epoch.json"))
    options = parser.parse_args()
    found = []
    print("| model | cut | features | epoch, cache / resident (min–max) | rung | KL | below fp32 |")
    print("|---|---|---|---|---|---|---|")
    for name, (story, cuts) in CASES.items():
        if options.model not in ("all", name):
            continue
        bench, _ = story(0, curve=False) if options.samples is None else story(0, curve=False, samples=options.samples)
        for cut in cuts:
            record = measure(replace(bench), cut, options.repeats)
            found.append({"model": name, **record})
            shape = "x".join(map(str, record["features"]))  # type: ignore[call-overload]
            print(
                f"| {name} | {cut} | {shape} | {record['ratio_median']:.3f} ({record['ratio_min']:.3f}–"
                f"{record['ratio_max']:.3f}) | {record['codec']} | {record['kl']:.1e} | {record['below_fp32']:.1f}x |",
                flush=True,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
