"""Trainings in several processes on this machine, by gloo; each leaves what it went through in a file."""

from __future__ import annotations

import copy
import datetime
import os
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler

from hoarfrost import Freezer
from hoarfrost.distributed import Ranks, board
from hoarfrost.errors import HoarfrostError, RankError
from shared.freezers import count_prefix_runs
from shared.images import PLAIN, images
from shared.nets import resnet
from shared.runs import sgd

SAMPLES, BATCH, EPOCHS = 150, 16, 4
POLICY = {1: "layer1", 3: "layer2"}
HARD_LIMIT = 240.0
"""Seconds until a spawned training is killed, on a machine where much else runs."""


class Numbered(Dataset[Any]):
    """Images whose targets are their numbers, so that a loop sees which samples it is given."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self.images = images(samples, PLAIN)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.images[index][0], index


def together(world: int, work: Callable[..., Any], where: Path, *args: Any) -> list[Any]:
    """What `work(rank, *args)` gives in each of so many processes of one group.

    Raises:
        AssertionError: they were not done in time.
    """
    where.mkdir()
    started = multiprocessing.start_processes(  # type: ignore[no-untyped-call]
        _begun, (world, work, where, args), nprocs=world, join=False, start_method="spawn"
    )
    until = time.monotonic() + HARD_LIMIT
    while not started.join(timeout=1.0):
        if time.monotonic() > until:
            for process in started.processes:
                process.kill()
            raise AssertionError(f"{world} processes were not done in {HARD_LIMIT:.0f} s")
    return [torch.load(where / f"{rank}.pt", weights_only=False) for rank in range(world)]


def with_a_death(where: Path) -> dict[str, Any]:
    """What is left of `silent` by the rank that lives on."""
    where.mkdir()
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_begun, args=(rank, 2, silent, where, ())) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(HARD_LIMIT)
        process.kill()
    left: dict[str, Any] = torch.load(where / "0.pt", weights_only=False)
    return left


def _begun(rank: int, world: int, work: Callable[..., Any], where: Path, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    # What torchrun says, and frameworks ask for.
    numbers = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world}
    os.environ.update({name: str(number) for name, number in numbers.items()}, OMP_NUM_THREADS="1")
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{where / 'rendezvous'}",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=60),
    )
    torch.save(work(rank, *args), where / f"{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def trained(
    rank: int,
    *,
    epochs: range = range(EPOCHS),
    state: dict[str, Any] | None = None,
    start: int = 0,
    stop: tuple[int, int] | None = None,
    samples: int = SAMPLES,
    compiled: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """A user's own loop under DistributedDataParallel.

    Args:
        compiled: by torch.compile, inside the wrapper.
        state: to go on from.
        start: batches to skip of the first epoch.
        stop: epoch and step at which it is broken off.
    """
    model = resnet()
    if state is not None:
        model.load_state_dict(state["model"])
    inner: Any = torch.compile(model, backend="eager") if compiled else model
    wrapped = DistributedDataParallel(inner)
    optimizer = sgd(model)
    told: dict[str, Any] = {
        "policy": POLICY,
        "mode": "cache",
        "ladder": "exact",
        "views": 1,
        "verbose": False,
        **options,
    }
    losses, shown, sizes = [], [], []
    with Freezer(wrapped, Numbered(samples), batch_size=BATCH, epochs=EPOCHS, optimizer=optimizer, **told) as freezer:
        if state is not None:
            freezer.load_state_dict(state["freezer"])
            optimizer.load_state_dict(state["optimizer"])
        torch.manual_seed(rank)

        def saved() -> dict[str, Any]:
            return {
                "model": {name: value.clone() for name, value in model.state_dict().items()},
                "freezer": freezer.state_dict(),
                "optimizer": copy.deepcopy(optimizer.state_dict()),
            }

        states = []
        for epoch in epochs:
            wrapped.train()
            of_epoch = []
            for step, (inputs, numbers) in enumerate(freezer.batches(epoch, start), start):
                loss = F.cross_entropy(freezer(inputs), numbers % 10)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())
                of_epoch += numbers.tolist()
                if stop == (epoch, step):
                    states.append(saved())
                    break
            start = 0
            shown.append(of_epoch)
            sizes.append(freezer.batches_per_epoch)
            if stop is not None and stop[0] == epoch:
                break
            freezer.end_epoch({"loss": losses[-1]})
            states.append(saved())
        return {
            "losses": losses,
            "shown": shown,
            "steps": sizes,
            "states": states,
            "history": freezer.history,
            "weights": states[-1]["model"],
            "depth": freezer.depth,
        }


def at_a_url(rank: int, where: Path) -> dict[str, Any]:
    """Built and published with one local store, read with one for each rank, and recomputed."""
    url = f"file://{where}/far"
    published = trained(rank, cache_dir=url, local_dir=where / "shared")
    with pytest.MonkeyPatch.context() as patch:
        runs = count_prefix_runs(patch)
        read = trained(rank, cache_dir=url, local_dir=where / f"own-{rank}")
    return {"published": published, "read": read, "runs": runs, "recomputed": trained(rank, mode="recompute")}


def plain_loop(rank: int, world: int) -> list[float]:
    """The same loop without a Freezer, the samples of each batch told beforehand."""
    from hoarfrost.samples import Order
    from hoarfrost.samples.order import batch_bounds

    data, order = Numbered(), Order(SAMPLES, 0, rank=rank, world_size=world)
    model = resnet()
    wrapped, optimizer, losses = DistributedDataParallel(model), sgd(model), []
    torch.manual_seed(rank)
    for epoch in range(EPOCHS):
        wrapped.train()
        ids = order.shuffled(epoch)
        for begin, end in batch_bounds(order.share(epoch), BATCH, least=order.least(epoch)):
            items = [data[number] for number in ids[begin:end].tolist()]
            inputs, numbers = torch.stack([item[0] for item in items]), torch.tensor([item[1] for item in items])
            loss = F.cross_entropy(wrapped(inputs), numbers % 10)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return losses


class OwnMind:
    """Each rank wants another depth, and watches gradients."""

    def __init__(self, rank: int) -> None:
        self.rank, self.norms = rank, list[tuple[float, ...]]()
        self.why = f"rank {rank} says so"

    def gradient_epochs(self, epochs: int | None) -> int:
        return 1

    def __call__(self, state: Any) -> int:
        if state.epoch:
            self.norms.append(state.gradient_norms)
        return (1 + self.rank) if state.epoch else 0


def minds(rank: int, cache: Path) -> dict[str, Any]:
    """Which depth, and what gradients, a policy comes to that differs from rank to rank."""
    model = resnet()
    wrapped, optimizer, policy = DistributedDataParallel(model), sgd(model), OwnMind(rank)
    sums = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    with Freezer(
        wrapped, Numbered(), batch_size=BATCH, optimizer=optimizer, policy=policy, cache_dir=cache, verbose=False
    ) as freezer:
        for inputs, numbers in freezer.batches(0):
            F.cross_entropy(freezer(inputs), numbers % 10).backward()
            for name, parameter in model.named_parameters():
                sums[name] += parameter.grad
            optimizer.step()
            optimizer.zero_grad()
        freezer.end_epoch()
        decided = freezer.state_dict()["decided"]
        segments = [sum(float(sums[name].abs().sum()) for name in s.names) for s in freezer._asking.observer.segments]
        return {
            "depth": freezer.depth,
            "decided": {k: v for k, v in decided.items() if k != "record"},
            "norms": policy.norms,
            "reduced": segments,
            "why": [record["why"] for record in freezer.history if record["event"] == "decision"],
        }


def wrapper(rank: int, cache: Path) -> dict[str, Any]:
    """What is left of a user's wrapper behind a freeze, and what its `no_sync` does."""
    model = resnet()
    wrapped = DistributedDataParallel(model, find_unused_parameters=True, bucket_cap_mb=3)
    calls: list[str] = []
    wrapped.register_forward_hook(lambda *_: calls.append("mine"))
    told: dict[str, Any] = {"policy": {0: "layer1"}, "mode": "cache", "verbose": False, "cache_dir": cache}
    with Freezer(wrapped, Numbered(), batch_size=BATCH, optimizer=sgd(model), **told) as freezer:
        batches = freezer.batches(0)
        found: dict[str, Any] = {}
        weight = model.get_parameter("layer3.0.conv1.weight")
        for name in ("apart", "together"):
            inputs, numbers = next(batches)
            with wrapped.no_sync() if name == "apart" else nullcontext():
                F.cross_entropy(freezer(inputs), numbers % 10).backward()
            found[name] = weight.grad.clone()
        with torch.no_grad():
            if rank == 0:
                freezer(inputs)  # alone: nothing is exchanged
        return {
            **found,
            "calls": calls,
            "same module": wrapped.module is model,
            "unused": wrapped.find_unused_parameters,
            "bytes": wrapped.bucket_bytes_cap,
            "left out": "stem.1.running_mean" in wrapped.parameters_to_ignore,
            "on the model": "_ddp_params_and_buffers_to_ignore" in model.__dict__,
        }


class BadOnOne(Numbered):
    """Cannot be read behind the first epoch, on one rank."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank, self.broken = rank, False

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if self.broken and self.rank == 1:
            raise OSError("the disk of this machine is gone")
        return super().__getitem__(index)


def failing(rank: int, cache: Path) -> str:
    """What each rank hears where the images of one of them cannot be read any more."""
    data = BadOnOne(rank)
    wrapped = DistributedDataParallel(resnet())
    try:
        with Freezer(wrapped, data, batch_size=BATCH, policy={0: 1}, mode="cache", cache_dir=cache, verbose=False) as f:
            f.decide()
            data.broken = True
            next(iter(f.batches(0)))
    except (HoarfrostError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def refusals(rank: int, world: int) -> dict[str, str]:
    """What is refused, by name."""
    from torch.distributed.fsdp import fully_shard

    def refused(model: nn.Module, data: Any, **options: Any) -> str:
        try:
            Freezer(model, data, epochs=EPOCHS, verbose=False, **options).close()
        except HoarfrostError as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    wrapped, data = DistributedDataParallel(resnet()), Numbered()
    mine = DataLoader(data, 16, sampler=DistributedSampler(data, num_replicas=world, rank=rank))
    weighted = DataLoader(data, 16, sampler=RandomSampler(data, replacement=True))
    sharded = resnet()
    fully_shard(sharded)
    return {
        "compiled": refused(torch.compile(wrapped, backend="eager"), data, batch_size=16),  # type: ignore[arg-type]
        "sharded": refused(sharded, data, batch_size=16),
        "sampler": refused(wrapped, weighted),
        "skipped": refused(wrapped, data, batch_size=16, on_bad_sample="skip"),
        "own share": refused(wrapped, mine),
    }


def silent(rank: int) -> dict[str, Any]:
    """Rank 1 is killed while another one waits for it."""
    board.BEAT_SECONDS, board.SILENT_SECONDS = 0.2, 3.0
    ranks = Ranks.now()
    ranks.gather("a first word", rank)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.monotonic()
    try:
        ranks.gather("a word that never comes", rank)
    except RankError as error:
        return {"said": str(error), "seconds": time.monotonic() - began}
    return {"said": "nothing", "seconds": 0.0}


def elsewhere(rank: int) -> str:
    """What is said to a rank that calls something else than the others."""
    ranks = Ranks.now()
    try:
        if rank == 0:
            ranks.lead("the depth", lambda: 1)
            return ""
        nothing: list[Tensor] = []
        ranks.lead("the rung", lambda: nothing)
    except RankError as error:
        return str(error)
    return "nothing"


def state_of_one(cache: Path) -> dict[str, Any]:
    """Of a single process, behind two batches of features, and the samples that it was shown of that epoch."""
    model = resnet()
    optimizer, shown = sgd(model), list[int]()
    told: dict[str, Any] = {"policy": POLICY, "mode": "cache", "ladder": "exact", "views": 1, "verbose": False}
    with Freezer(
        model, Numbered(), batch_size=BATCH, epochs=EPOCHS, optimizer=optimizer, cache_dir=cache, **told
    ) as freezer:
        freezer.end_epoch()
        for _, numbers in freezer.batches(1):
            shown += numbers.tolist()
            if len(shown) == 2 * BATCH:
                break
        return {
            "model": model.state_dict(),
            "freezer": freezer.state_dict(),
            "optimizer": optimizer.state_dict(),
            "shown": shown,
        }


def everything(rank: int, world: int, where: Path, of_one: dict[str, Any]) -> dict[str, Any]:
    """All that is asked of one group of processes, one thing after the other: to start them takes longest."""
    cached = trained(rank, cache_dir=where / "cache")
    broken = trained(rank, cache_dir=where / "broken", stop=(2, 1))
    state = _from_first(broken["states"][-1])
    between = _from_first(cached["states"][1])
    return {
        "cached": cached,
        "broken": broken,
        "of one": trained(rank, cache_dir=where / "one", state=of_one, epochs=range(1, 3), start=2),
        "recomputed": trained(rank, mode="recompute"),
        "apart": trained(rank, cache_dir=where / f"cache-of-{rank}"),
        "resumed": trained(rank, cache_dir=where / "broken", state=state, epochs=range(2, EPOCHS), start=2),
        "between": trained(rank, cache_dir=where / "between", state=between, epochs=range(2, EPOCHS)),
        "none": trained(rank, policy="none"),
        "plain": plain_loop(rank, world),
        "compiled": trained(rank, cache_dir=where / "compiled", compiled=True),
        "deeper": trained(
            rank, cache_dir=where / "deeper", policy={1: "layer1"}, disk_budget=700_000, over_budget="cut,recompute"
        ),
        "no room": trained(rank, cache_dir=where / "no-room", disk_budget=30_000, over_budget="recompute"),
        "onward": trained(rank, cache_dir=where / "onward", build_from="features"),
        "wrapper": wrapper(rank, where / "wrapper"),
        "minds": minds(rank, where / "minds"),
        "failing": failing(rank, where / "failing"),
        "elsewhere": elsewhere(rank),
        "refusals": refusals(rank, world),
    }


def unequal(rank: int, where: Path, state: dict[str, Any], samples: int) -> dict[str, Any]:
    """Where the samples are no multiple of the ranks, and the state is of another number of them."""
    return {
        "cached": trained(rank, samples=samples, cache_dir=where / "cache"),
        "recomputed": trained(rank, samples=samples, mode="recompute"),
        "goes on": trained(rank, samples=samples, cache_dir=where / "on", state=state, epochs=range(1, EPOCHS)),
    }


def _from_first(value: Any) -> Any:
    """What rank 0 has, as a checkpoint that it wrote is read by all."""
    held = [value]
    distributed.broadcast_object_list(held, 0)
    return held[0]
