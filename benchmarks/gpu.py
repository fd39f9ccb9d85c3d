"""Images a second on a GPU: full training, conventional freezing, training from the cache, and its upper bound.

    python benchmarks/gpu.py                       # one call, seven minutes at most; JSON in $OUT, or --out
    python benchmarks/gpu.py --quick --device cpu  # the same on small models, a minute

Measures: ResNet-50, frozen up to `layer3`, and ViT-B/16, frozen up to its ninth block, from torchvision, with random
weights, at 224 px under autocast to bf16, eager, SGD with momentum, batches of 256:
- full: everything trains;
- conventional: the front is frozen and run again for each batch, without gradients and in eval;
- cached: `hoarfrost.Freezer` from its cache of 8 bits: `first epoch` from the disk, the later ones from memory;
- resident: what is behind the cut, on features that lie on the device: no way of reading can be faster.
Full and conventional are measured on a batch that lies on the device (`compute`), and with a DataLoader that decodes
JPEGs in as many processes as there are cores and sends bytes, normalised on the device (`loader`).
On: 10,000 JPEGs of 256 px that it makes itself. Each round takes all ways once, so that the ratios are of one minute;
told are median, least and largest over the rounds. Peak memory is what a way takes on the device, weights included.
Each part is bounded in time: what is broken off stands under "stopped". The JSON is written after each part.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from gpu_study import CLASSES, FULL, QUICK, Jpegs, Report, Size, Subject, make_jpegs
from hoarfrost import Freezer, divide, find_cut, find_cuts

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SEEN_BY_FREEZER = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]


class Bench:
    """One model on one device, and how its ways are run."""

    def __init__(self, subject: Subject, size: Size, device: torch.device, folder: Path, report: Report) -> None:
        self.subject, self.size, self.device, self.folder, self.report = subject, size, device, folder, report
        self.found: dict[str, Any] = {"cut": subject.cut, "pixels": size.pixels, "batch_size": size.batch_size}
        self.crops = [v2.CenterCrop(size.pixels), v2.RandomHorizontalFlip()]
        torch.manual_seed(0)
        self.model = self.placed(subject.make())
        self.images = self.placed_images(torch.randn(size.batch_size, 3, size.pixels, size.pixels))
        self.targets = torch.randint(0, CLASSES, (size.batch_size,), device=device)
        whole = copy.deepcopy(self.model)
        few = self.images[:4]
        cut = find_cut(find_cuts(whole, few), subject.cut)
        self.prefix, self.suffix = divide(whole, cut, few, verify=False)  # the freezer verifies its own
        self.prefix.eval()
        self.mean, self.std = (torch.tensor(v, device=device).view(1, 3, 1, 1) * 255 for v in (MEAN, STD))

    def placed(self, model: nn.Module) -> nn.Module:
        model = model.to(self.device).train()
        return model.to(memory_format=torch.channels_last) if self.subject.channels_last else model

    def placed_images(self, images: Tensor) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        return images.contiguous(memory_format=torch.channels_last) if self.subject.channels_last else images

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)

    def step(self, forward: Callable[[Tensor], Tensor], optimizer: Any, inputs: Tensor, targets: Tensor) -> None:
        with self.autocast():
            loss = F.cross_entropy(forward(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.01, momentum=0.9)

    def full(self) -> Callable[[Tensor, Tensor], None]:
        model = copy.deepcopy(self.model)
        optimizer = self.optimizer(model)
        return lambda inputs, targets: self.step(model, optimizer, inputs, targets)

    def conventional(self) -> Callable[[Tensor, Tensor], None]:
        """As one freezes by hand: parameters without gradients, modules in eval; autograd records nothing of them."""
        model = copy.deepcopy(self.model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in self.prefix.parameter_names)
        for name, module in model.named_modules():
            module.training = name not in self.prefix.module_names
        optimizer = self.optimizer(model)
        return lambda inputs, targets: self.step(model, optimizer, inputs, targets)

    def resident(self) -> Callable[[Tensor, Tensor], None]:
        with torch.no_grad(), self.autocast():
            features = self.prefix(self.images)
        for name, parameter in self.prefix.named_parameters():
            parameter.requires_grad_(name not in self.prefix.parameter_names)
        optimizer = self.optimizer(self.suffix)
        return lambda inputs, targets: self.step(self.suffix, optimizer, features, targets)

    # -- measuring

    def seconds(self, work: Callable[[], object]) -> float:
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def held(self) -> int:
        """Bytes on the device now; from here on the most is told anew."""
        if self.device.type != "cuda":
            return 0
        self.wait()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def note_peak(self, name: str, before: int) -> None:
        """GiB on the device that a way took at most, beyond what was held before it."""
        if self.device.type == "cuda":
            self.wait()
            self.found.setdefault("peak_gib", {})[name] = (torch.cuda.max_memory_allocated() - before) / 2**30

    def steps(self, run: Callable[[Tensor, Tensor], None], count: int) -> None:
        for _ in range(count):
            run(self.images, self.targets)

    def loader(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Epoch after epoch of decoded JPEGs, bytes until they are on the device."""
        data = Jpegs(self.folder, self.size.samples, v2.Compose([*self.crops, v2.ToImage()]))
        loader = DataLoader(
            data,
            self.size.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=self.size.workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=self.size.workers > 0,
            prefetch_factor=1 if self.size.workers else None,
        )
        while True:
            for images, targets in loader:
                yield self.placed_images(images), targets.to(self.device, non_blocking=True)

    def from_loader(self, run: Callable[[Tensor, Tensor], None], batches: Iterator[Any], count: int) -> None:
        for _ in range(count):
            images, targets = next(batches)
            run((images.float() - self.mean) / self.std, targets)

    def loaded_rate(self, run: Callable[[Tensor, Tensor], None], batches: Iterator[Any]) -> float:
        """Images a second behind the loader, over whole waves of its processes; what waits in it does not count."""
        for _ in range(self.size.workers):
            next(batches)
        count = max(self.size.steps, 3 * self.size.workers)
        return count * self.size.batch_size / self.seconds(lambda: self.from_loader(run, batches, count))


def cached_epoch(bench: Bench, freezer: Freezer, optimizer: Any, epoch: int) -> float:
    """Images a second of one epoch behind the freeze; in front of the first one stands the build, which is left out."""
    freezer.model.train()
    batches, shown = freezer.batches(epoch), 0
    given = itertools.chain([next(batches)] if epoch == 0 else [], batches)

    def train() -> None:
        nonlocal shown
        for features, targets in given:
            shown += len(targets)
            bench.step(freezer, optimizer, features, targets)

    taken = bench.seconds(train)
    freezer.end_epoch()
    return shown / taken


def measure(bench: Bench, budget: float) -> None:
    """All of one model within so many seconds."""
    report, size, found, name = bench.report, bench.size, bench.found, bench.subject.name
    ends = time.perf_counter() + budget

    def late(share: float) -> bool:
        """Whether more than this share of the time is gone."""
        return time.perf_counter() > ends - (1 - share) * budget

    ways: dict[str, Callable[[Tensor, Tensor], None]] = {}
    for way in ("full", "conventional", "resident"):
        before = bench.held()
        ways[way] = getattr(bench, way)()
        bench.steps(ways[way], 3)
        bench.note_peak(way, before)
        report.say(f"{name}: {way} is warm")
    report.write()
    with tempfile.TemporaryDirectory() as folder:
        before, began = bench.held(), time.perf_counter()
        freezer, optimizer = frozen(bench, folder)
        report.say(f"{name}: divided and frozen after {time.perf_counter() - began:.1f} s")
        first = cached_epoch(bench, freezer, optimizer, 0)
        bench.note_peak("building", before)
        record = next(entry for entry in freezer.history if entry["event"] == "freeze")
        told = ("decision", "prefix_seconds", "read_seconds", "build_seconds", "cache_bytes", "dense_bytes")
        found["freeze"] = {key: record[key] for key in told}
        found["first_epoch"] = first
        report.say(f"{name}: built in {record['build_seconds']:.1f} s; from the disk {first:,.0f} images/s")
        bench.held()
        cached_epoch(bench, freezer, optimizer, 1)
        bench.note_peak("cached", before)
        report.write()
        epochs = itertools.count(2)
        rounds: list[dict[str, float]] = []
        for number in range(size.rounds):
            if number and late(0.6):
                report.stop(f"{name}: {number} of {size.rounds} rounds")
                break
            row = {}
            for way, run in ways.items():
                taken = bench.seconds(lambda run=run: bench.steps(run, size.steps))
                row[way] = size.steps * size.batch_size / taken
            row["cached"] = cached_epoch(bench, freezer, optimizer, next(epochs))
            rounds.append(row)
            report.say(f"{name}: round {number + 1}: {_listed(row)} images/s")
        found["compute"] = _summary(rounds)
        report.write()
        batches, with_loader = bench.loader(), []
        bench.from_loader(ways["full"], batches, 1)  # its processes start
        for number in range(size.rounds):
            if late(0.85):
                report.stop(f"{name}: {number} of {size.rounds} rounds with the loader")
                break
            row = {way: bench.loaded_rate(ways[way], batches) for way in ("full", "conventional")}
            time.sleep(size.rest_seconds)  # until its processes have filled what they may
            row["cached"] = cached_epoch(bench, freezer, optimizer, next(epochs))
            with_loader.append(row)
            report.say(f"{name}: round {number + 1} with the loader: {_listed(row)} images/s")
            found["loader"] = _summary(with_loader)
            report.write()
        freezer.close()


def frozen(bench: Bench, folder: str) -> tuple[Freezer, torch.optim.Optimizer]:
    """A freezer that has frozen a copy of the model before the first epoch; its cache is built by that."""
    model = copy.deepcopy(bench.model)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    freezer = Freezer(
        model,
        Jpegs(bench.folder, bench.size.samples),
        transform=v2.Compose([*bench.crops, *SEEN_BY_FREEZER]),
        batch_size=bench.size.batch_size,
        epochs=999,
        optimizer=optimizer,
        policy={0: bench.subject.cut},
        settle="last",
        mode="cache",
        views=1,
        ladder=8,
        memory_budget=16 << 30,
        cache_dir=folder,
        workers=bench.size.workers,
        channels_last=bench.subject.channels_last,
        precision="bf16",
        verbose=False,
    )
    return freezer, optimizer


def _listed(row: dict[str, float]) -> str:
    return ", ".join(f"{way} {rate:,.0f}" for way, rate in row.items())


def _summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Images a second of each way, and the ratios of the cached way to the others, each round by itself."""

    def told(values: list[float]) -> dict[str, float]:
        return {"median": statistics.median(values), "min": min(values), "max": max(values)}

    others = [way for way in rounds[0] if way != "cached"]
    return {
        "images_per_second": {way: told([row[way] for row in rounds]) for way in rounds[0]},
        "cached_over": {way: told([row["cached"] / row[way] for row in rounds]) for way in others},
        "rounds": rounds,
    }


def hardware(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "device": str(device),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": sys.version.split()[0],
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {
            "card": card.name,
            "memory_gib": card.total_memory / 2**30,
            "multiprocessors": card.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": _driver(),
        }
    return found


def _driver() -> str:
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")) / "gpu.json")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small models on few images, to see that all runs")
    parser.add_argument("--limit", type=float, default=420.0, help="seconds that all may take")
    parser.add_argument("--only", nargs="*", help="models by name")
    told = parser.parse_args()
    size, device = QUICK if told.quick else FULL, torch.device(told.device)
    report = Report(told.out, told.limit)
    subjects = [subject for subject in size.subjects if not told.only or subject.name in told.only]
    with tempfile.TemporaryDirectory() as folder:
        # Before the device is touched: processes are forked.
        began = time.perf_counter()
        make_jpegs(Path(folder), size.samples, size.stored_pixels)
        seconds = time.perf_counter() - began
        report.say(f"{size.samples:,} JPEGs in {seconds:.1f} s")
        report.found |= {"hardware": hardware(device), "precision": "bf16", "samples": size.samples, "models": {}}
        report.say(json.dumps(report.found["hardware"]))
        for number, subject in enumerate(subjects):
            budget = report.left / (len(subjects) - number)
            if budget < size.least_seconds:
                report.stop(f"{subject.name}: {budget:.0f} s were left for it")
                continue
            try:
                bench = Bench(subject, size, device, Path(folder), report)
                report.found["models"][subject.name] = bench.found
                measure(bench, budget)
            except Exception:  # the other model is still worth its time
                failed = report.found.setdefault("failed", {})[subject.name] = traceback.format_exc()
                report.say(failed)
            report.write()
            bench = None
            if device.type == "cuda":
                torch.cuda.empty_cache()
    report.write()
    report.say(f"written to {told.out}")
    for name, found in report.found["models"].items():
        if "compute" in found:
            print(f"{name}, frozen up to {found['cut']}:")
            for part in ("compute", "loader"):
                for way, ratio in found.get(part, {}).get("cached_over", {}).items():
                    print(
                        f"  cached over {way} ({part}): {ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"
                    )
    if "failed" in report.found:
        sys.exit(1)


if __name__ == "__main__":
    main()
