"""What a cached epoch takes in two processes, against half of one process's, and what exchanging gradients costs.

Measures: seconds of an epoch of the layers behind the cut, forward, loss, backward and the optimizer's step, each
process on one thread, by gloo on this machine.
  alone     one process, features resident in memory, all samples; the other process waits.
  resident  two processes, DistributedDataParallel, each half of the samples resident in memory.
  cached    two processes, a Freezer's epochs from the cache that both have built.
  reduced   one all-reduce of the gradients' bytes for each step, and nothing else.
From these: cached / resident; cached / (alone / 2 + reduced); and what two processes gain, alone / cached.
On: ResNet-18 at `--size` px frozen up to its second stage; random weights and images, exact features.
Repeats: `--turns` of all in turn; the median of each, and of the ratios within a turn with their quartiles. The load of
the machine stands in the result: two processes want two idle cores.

    python benchmarks/distributed.py --out benchmarks/results/distributed.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset
from torchvision.models import resnet18

from hoarfrost import Freezer
from hoarfrost.distributed import Ranks
from measuring.timing import quartiles

CUT = "layer2"
RANKS = 2


class Behind(nn.Module):
    """The layers behind the cut, by hand: what is compared with knows nothing of Hoarfrost."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(model.layer3, model.layer4, model.avgpool, nn.Flatten(), model.fc)

    def forward(self, features: Tensor) -> Tensor:
        given: Tensor = self.layers(features)
        return given


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def epoch(call: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, batches: Any) -> None:
    for inputs, targets in batches:
        F.cross_entropy(call(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()


def resident(model: nn.Module, size: int, batch_size: int, samples: int, stride: int) -> list[tuple[Tensor, Tensor]]:
    """Features as large as those of the cut, in batches that lie in memory."""
    shape = (128, -(-size // 8), -(-size // 8))
    features, targets = torch.rand(samples, *shape), torch.randint(0, 10, (samples,))
    return list(zip(features[::stride].split(batch_size), targets[::stride].split(batch_size), strict=True))


def measured(rank: int, where: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{where}/store", rank=rank, world_size=RANKS)
    torch.manual_seed(0)
    ranks = Ranks.now()
    images = torch.rand(options.samples, 3, options.size, options.size)
    data = TensorDataset(images, torch.randint(0, 10, (options.samples,)))
    model = resnet18(num_classes=10).train()
    wrapped, optimizer = DistributedDataParallel(model), torch.optim.SGD(model.parameters(), 1e-3)
    by_hand, split = Behind(resnet18(num_classes=10)).train(), Behind(resnet18(num_classes=10)).train()
    shared = DistributedDataParallel(split)
    of_hand, of_split = (torch.optim.SGD(of.parameters(), 1e-3) for of in (by_hand, split))
    whole = resident(model, options.size, options.batch_size, options.samples, 1)
    half = resident(model, options.size, options.batch_size, options.samples, RANKS)
    gradients = torch.zeros(sum(parameter.numel() for parameter in split.parameters()))

    def reduce() -> None:
        for _ in half:
            distributed.all_reduce(gradients)

    told: dict[str, Any] = {"policy": {0: CUT}, "mode": "cache", "views": 1, "ladder": "exact", "verbose": False}
    with Freezer(
        wrapped, data, batch_size=options.batch_size, optimizer=optimizer, cache_dir=f"{where}/cache", **told
    ) as freezer:
        number = iter(range(options.turns + 1))

        def cached() -> None:
            epoch(freezer, optimizer, freezer.batches(next(number)))

        cached()  # builds
        epoch(shared, of_split, half)
        turns = []
        for _ in range(options.turns):
            turn = {}
            ranks.gather("one alone", 0)
            if rank == 0:
                turn["alone"] = seconds(lambda: epoch(by_hand, of_hand, whole))
            for name, run in (
                ("resident", lambda: epoch(shared, of_split, half)),
                ("cached", cached),
                ("reduced", reduce),
            ):
                ranks.gather(name, 0)
                turn[name] = seconds(run)
            turns.append(turn)
    if rank == 0:
        Path(where, "turns.json").write_text(json.dumps(turns))
    ranks.close()
    distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--out", type=Path, help="a JSON file with all the numbers")
    options = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as where:
        multiprocessing.start_processes(  # type: ignore[no-untyped-call]
            measured, (where, options), nprocs=RANKS, start_method="spawn"
        )
        turns = json.loads(Path(where, "turns.json").read_text())
    found = {
        "samples": options.samples,
        "size": options.size,
        "batch_size": options.batch_size,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "load": {"before": before, "after": os.getloadavg()[0]},
        "seconds": {name: quartiles([turn[name] for turn in turns]) for name in turns[0]},
        "ratios": {
            "cached / resident": quartiles([t["cached"] / t["resident"] for t in turns]),
            "cached / (alone / 2 + reduced)": quartiles([t["cached"] / (t["alone"] / 2 + t["reduced"]) for t in turns]),
            "alone / cached": quartiles([t["alone"] / t["cached"] for t in turns]),
        },
    }
    print("| what | median | from | to |\n|---|---|---|---|")
    for name, of in (*found["seconds"].items(), *found["ratios"].items()):
        print(f"| {name} | {of['median']:.3f} | {of['low']:.3f} | {of['high']:.3f} |")
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
