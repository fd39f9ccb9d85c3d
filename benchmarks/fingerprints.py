"""What it costs to know what a cache was made from.

Measures: seconds until a cache that stands is known to be fresh, for images that lie on disk (names, sizes and times by
`stat`, the prefix's settings, code and output, and 16 samples that are read), and for images in memory (all of their
bytes); seconds of a build with the digests of samples, relative to one without; seconds of an epoch that reads the
cache, with targets taken from the data set and with those stored, relative to each other, and of a first epoch that
looks at samples meanwhile relative to later ones.
On: random images of 3 x 32 x 32. Opening: all of them, behind one convolution, since what is looked at of a prefix does
not depend on the samples. Building and reading: `--trained` of them, through a small ResNet of which the first stage is
frozen. One thread. Seconds are those of the processor, all threads together, so that what else runs on the machine does
not count; a build's are those of its calibration too.
Repeats: `--turns` of each, in turn; the median, and of ratios the median of the turns' own.

    python benchmarks/fingerprints.py --samples 50000 --trained 2048 --turns 9
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

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.models import resolve_model
from hoarfrost.samples import Samples
from hoarfrost.storing.fingerprint import Content

CUT, CLASSES, SIZE = "layer1", 10, 32
TO_FLOAT = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def write_images(folder: Path, samples: int) -> None:
    """An image a sample, in a folder for each class."""
    noise = np.random.default_rng(0)
    for number in range(CLASSES):
        (folder / str(number)).mkdir(parents=True, exist_ok=True)
    for number in range(samples):
        pixels = noise.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / str(number % CLASSES) / f"{number:06}.png", compress_level=0)


def in_memory(samples: int) -> TensorDataset:
    images = torch.rand(samples, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return TensorDataset(images, torch.arange(samples) % CLASSES)


def one_convolution() -> nn.Module:
    front = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8), nn.ReLU())
    return nn.Sequential(front, nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)))


def freezer_of(data: Any, cache: Path, *, small: bool = False) -> Freezer:
    torch.manual_seed(0)
    model = one_convolution() if small else resolve_model("cifar_resnet", channels=3, classes=CLASSES)
    options: dict[str, Any] = {"mode": "cache", "settle": "last", "views": 1, "ladder": 8, "verbose": False}
    return Freezer(
        model, data, batch_size=128, epochs=99, policy={0: "0" if small else CUT}, cache_dir=cache, **options
    )


def seconds_of(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def epoch(freezer: Freezer, number: int) -> None:
    """One of training the suffix."""
    optimizer = torch.optim.SGD((p for p in freezer.model.parameters() if p.requires_grad), lr=0.01)
    for features, targets in freezer.batches(number):
        F.cross_entropy(freezer(features), targets).backward()
        optimizer.step()
        optimizer.zero_grad()


def opening(data: Any, cache: Path, turns: int) -> dict[str, float]:
    """Seconds of what is looked at, and of the whole of finding a cache fresh."""
    with freezer_of(data, cache, small=True) as freezer:
        next(iter(freezer.batches(0)))  # builds it
        division, own = freezer._front.division, freezer._data
        assert division is not None
        look = [seconds_of(own.samples.identity.look) for _ in range(turns)]
        content = [seconds_of(lambda: Content.now(division, own)) for _ in range(turns)]
        storer = freezer._feeder._storer
        digests = [cache.fingerprint.digest for cache in freezer._feeder.caches]
        found = [seconds_of(lambda: storer.storage.reopen(division, digests)) for _ in range(turns)]
    return {
        "look": statistics.median(look),
        "content": statistics.median(content),
        "found_fresh": statistics.median(found),
    }


def building(data: Any, turns: int) -> dict[str, float]:
    """Seconds of a build with digests of samples, and without."""
    took: dict[bool, list[float]] = {True: [], False: []}
    honest = Samples.digests
    for turn in range(turns + 1):
        for told in (True, False) if turn % 2 else (False, True):
            Samples.digests = honest if told else lambda self, items: None  # type: ignore[method-assign,assignment,return-value]
            with tempfile.TemporaryDirectory() as folder, freezer_of(data, Path(folder)) as freezer:
                took[told].append(seconds_of(lambda: next(iter(freezer.batches(0)))))
    Samples.digests = honest  # type: ignore[method-assign]
    ratios = [a / b for a, b in zip(took[True][1:], took[False][1:], strict=True)]  # the first warm up
    return {"seconds": statistics.median(took[True]), "ratio_to_none": statistics.median(ratios)}


def reading(data: Any, cache: Path, turns: int) -> dict[str, float]:
    """Seconds of epochs behind a freeze, in one run: targets of today, and those stored."""
    took: dict[bool, list[float]] = {True: [], False: []}
    with freezer_of(data, cache) as freezer:
        next(iter(freezer.batches(0)))  # builds it
    with freezer_of(data, cache) as freezer:
        first = seconds_of(lambda: epoch(freezer, 0))
        freezer._feeder.end_check()
        honest = Samples.targets_now
        for turn in range(turns):
            for today in (True, False) if turn % 2 else (False, True):
                if not today:
                    Samples.targets_now = _stored  # type: ignore[method-assign]
                took[today].append(seconds_of(lambda turn=turn: epoch(freezer, 1 + turn)))  # type: ignore[misc]
                Samples.targets_now = honest  # type: ignore[method-assign]
    ratios = [a / b for a, b in zip(took[True], took[False], strict=True)]
    later = statistics.median(took[True])
    return {"seconds": later, "ratio_to_stored": statistics.median(ratios), "first_ratio": first / later}


def _stored(self: Samples, ids: Tensor) -> Tensor | None:
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--trained", type=int, default=2048)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    found: dict[str, Any] = {name: value for name, value in vars(told).items() if name != "out"}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root / "images", told.samples)
        kinds = {"files": ImageFolder(str(root / "images"), TO_FLOAT), "memory": in_memory(told.samples)}
        few = range(0, told.samples, max(1, told.samples // told.trained))  # of all classes
        for name, data in kinds.items():
            found[name] = {"opening": opening(data, root / name, told.turns)}
            found[name]["building"] = building(Subset(data, few), max(1, told.turns // 3))
            found[name]["reading"] = reading(Subset(data, few), root / f"{name}-few", told.turns)
            print(name, json.dumps(found[name]), flush=True)
    if told.out is not None:
        told.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
