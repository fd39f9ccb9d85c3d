"""A user's loop on Accelerate in two processes, with a freezer in its loader's place."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator, DataLoaderConfiguration, DistributedType
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import ParallelismConfig
from torch import Tensor
from torch.utils.data import DataLoader

from hoarfrost.errors import HoarfrostError
from hoarfrost.integrations.accelerate import FreezingLoader
from shared.distributed_runs import Numbered
from shared.nets import resnet
from shared.runs import sgd

SAMPLES, BATCH, EPOCHS = 59, 8, 4  # 30 and 29 samples: three batches of 8, and one of 6 or 5
STEPS = 4
POLICY = {1: "layer1", 2: "layer2"}
EXACT: dict[str, Any] = {"ladder": "exact", "views": 1, "verbose": False, "epochs": EPOCHS}


class Loop:
    """Four epochs, gradients of two batches a step."""

    def __init__(
        self, rank: int, mixed: str = "no", prepared: bool = False, compiled: bool = False, **keywords: Any
    ) -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        self.rank = rank
        self.accelerator = Accelerator(cpu=True, mixed_precision=mixed, gradient_accumulation_steps=2)
        model = resnet()
        inner: Any = torch.compile(model, backend="eager") if compiled else model
        self.model, self.optimizer = self.accelerator.prepare(inner, sgd(model))
        self.whole = model
        self._prepared, self._keywords = prepared, keywords
        self.losses: list[float] = []
        self.shown: list[list[int]] = []
        self.gathered: list[list[int]] = []
        self.evaluated: list[list[float]] = []
        self.steps = 0

    def loader(self) -> FreezingLoader:
        data: Any = DataLoader(Numbered(SAMPLES), BATCH, shuffle=True)
        if self._prepared:
            data = self.accelerator.prepare(data)
        return FreezingLoader(self.accelerator, self.model, self.optimizer, data, **EXACT, **self._keywords)

    def epoch(self, loader: Any, save: dict[int, Path] | None = None, start: int = 0) -> None:
        self.model.train()
        shown, gathered = [], []
        for step, (inputs, numbers) in enumerate(loader, start + 1):
            torch.manual_seed(100 * len(self.losses) + self.rank)
            with self.accelerator.accumulate(self.model):
                loss = F.cross_entropy(self.model(inputs), numbers % 10)
                self.accelerator.backward(loss)
                self.optimizer.step()
                self.optimizer.zero_grad()
            self.losses.append(loss.item())
            self.steps += self.accelerator.sync_gradients
            shown += numbers.tolist()
            told = self.accelerator.gather_for_metrics({"numbers": numbers, "logits": torch.stack([numbers] * 2, 1)})
            assert torch.equal(told["logits"][:, 1], told["numbers"])
            gathered += told["numbers"].tolist()
            if save and step in save:
                self.accelerator.save_state(str(save[step]))
        self.shown.append(shown)
        self.gathered.append(gathered)

    def evaluate(self) -> None:
        """On images, the whole model; Accelerate shares them out."""
        self.model.eval()
        images = self.accelerator.prepare(DataLoader(Numbered(21), 4))
        with torch.no_grad():
            outputs = [self.accelerator.gather_for_metrics(self.model(inputs)) for inputs, _ in images]
        self.evaluated.append(torch.cat(outputs).sum(1).tolist())

    def found(self) -> dict[str, Any]:
        return {
            "losses": self.losses,
            "shown": self.shown,
            "gathered": self.gathered,
            "evaluated": self.evaluated,
            "steps": self.steps,
            "weights": {name: value.clone() for name, value in self.whole.state_dict().items()},
        }


def run(rank: int, saves: Path | None = None, **options: Any) -> dict[str, Any]:
    """All epochs, saved in the middle and at the end of each."""
    loop = Loop(rank, **options)
    loader = loop.loader()
    for epoch in range(EPOCHS):
        loop.epoch(loader, {step: saves / f"{epoch}-{step}" for step in (2, STEPS)} if saves else None)
        loop.evaluate()
        loader.freezer.end_epoch({"loss": loop.losses[-1] + 10 * rank})
    loader.close()
    return {**loop.found(), "history": loader.freezer.history}


def resumed(rank: int, saved: Path, epoch: int, step: int, **options: Any) -> dict[str, Any]:
    loop = Loop(rank, **options)
    loader = loop.loader()
    loop.accelerator.load_state(str(saved / f"{epoch}-{step}"))
    loop.losses = [0.0] * (epoch * STEPS + step)  # each step is seeded by its number
    for number in range(epoch + (step == STEPS), EPOCHS):
        loop.epoch(loader, start=step if number == epoch else 0)
        loader.freezer.end_epoch({"loss": 0.0})
    loader.close()
    return {**loop.found(), "losses": loop.losses[epoch * STEPS + step :]}


def gone_on(rank: int, saved: Path, **options: Any) -> dict[str, Any]:
    """To the end, from what any number of processes have saved."""
    loop = Loop(rank, **options)
    loader = loop.loader()
    loop.accelerator.load_state(str(saved))
    begin = loader.freezer.loader.state_dict()["epoch"]
    for _ in range(begin, EPOCHS):
        loop.epoch(loader)
        loader.freezer.end_epoch({"loss": 0.0})
    loader.close()
    shown = [(epoch, numbers) for epoch, numbers in enumerate(loop.shown, begin)]
    return {**loop.found(), "shown": shown, "history": loader.freezer.history}


def of_one(saves: Path, cache: Path) -> list[list[int]]:
    """Of a single process: saved behind the first epoch, and in the second; and what it was shown by then."""
    loop = Loop(0, policy=POLICY, mode="cache", cache_dir=cache)
    loader = loop.loader()
    for epoch in range(2):
        loop.epoch(loader, {2: saves / "1-2"} if epoch else {2 * STEPS: saves / "0-8"})
    loader.close()
    return loop.shown


def plain(rank: int, batches: list[list[tuple[Tensor, Tensor]]]) -> dict[str, Any]:
    """Accelerate's own loop over the same batches."""
    loop = Loop(rank)
    for epoch in batches:
        loader = loop.accelerator.prepare(DataLoader(epoch, collate_fn=lambda batch: batch[0]))
        loader.batch_sampler.num_processes = 1  # these are this rank's
        loader.batch_sampler.process_index = 0
        loop.model.train()
        for inputs, numbers in loader:
            torch.manual_seed(100 * len(loop.losses) + rank)
            with loop.accelerator.accumulate(loop.model):
                loss = F.cross_entropy(loop.model(inputs), numbers % 10)
                loop.accelerator.backward(loss)
                loop.optimizer.step()
                loop.optimizer.zero_grad()
            loop.losses.append(loss.item())
        loop.evaluate()
    return loop.found()


def batches_of(rank: int) -> list[list[tuple[Tensor, Tensor]]]:
    loader = Loop(rank, policy="none").loader()
    shown = [[(inputs.clone(), numbers.clone()) for inputs, numbers in loader] for _ in range(EPOCHS)]
    loader.close()
    return shown


def refusals(rank: int) -> dict[str, str]:
    """What is refused, by name; the plans that cannot be launched here are only said."""
    loop = Loop(rank, policy="none")

    def refused(kind: DistributedType | None = None, plan: Any = None, data: Any = None, wrapper: Any = None) -> str:
        state = loop.accelerator.state
        before, model = state._shared_state["distributed_type"], loop.model if wrapper is None else wrapper
        state.distributed_type = kind or before
        state.parallelism_config, own = plan, state.parallelism_config
        try:
            told = {**EXACT, "policy": {1: "layer1"}}
            FreezingLoader(loop.accelerator, model, loop.optimizer, data or Numbered(), batch_size=8, **told).close()
        except HoarfrostError as error:
            return f"{type(error).__name__}: {error}"
        finally:
            state.distributed_type, state.parallelism_config = before, own
        return "nothing"

    tensor = ParallelismConfig()
    tensor.tp_size = 2
    compiled: Any = torch.compile(loop.model, backend="eager")
    compiled._is_accelerate_prepared = True
    return {
        "FSDP": refused(DistributedType.FSDP),
        "DeepSpeed": refused(DistributedType.DEEPSPEED),
        "tensors": refused(plan=tensor),
        "in order": refused(data=loop.accelerator.prepare(DataLoader(Numbered(), 8))),
        "compiled": refused(wrapper=compiled),
    }


def split(rank: int) -> list[int]:
    """How many samples a batch has, of a loader whose batches Accelerate splits."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(split_batches=True))
    model = resnet()
    torch.manual_seed(rank)  # Accelerate then gives the sampler another seed on each
    generator = torch.Generator().manual_seed(rank)
    data = DataLoader(Numbered(40), 20, shuffle=True, generator=generator)
    model, optimizer, data = accelerator.prepare(model, sgd(model), data)
    loader = FreezingLoader(accelerator, model, optimizer, data, policy="none", verbose=False)
    numbers = [accelerator.gather_for_metrics(numbers).tolist() for _, numbers in loader]
    loader.close()
    return [n for batch in numbers for n in batch] + [len(batch) for batch in numbers]


def everything(rank: int, where: Path) -> dict[str, Any]:
    told = {"policy": POLICY, "cache_dir": where / "cache"}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        cached = run(rank, where / "saved", mode="cache", **told)
    return {
        "cached": cached,
        "said": [str(warning.message) for warning in said if "hoarfrost" in str(warning.message)],
        "recomputed": run(rank, mode="recompute", policy=POLICY),
        "bf16": run(rank, mode="cache", mixed="bf16", policy=POLICY, prepared=True),
        "bf16 recomputed": run(rank, mode="recompute", mixed="bf16", policy=POLICY, prepared=True),
        "compiled": run(rank, mode="cache", policy=POLICY, compiled=True),
        "resumed": {
            f"{epoch}-{step}": resumed(rank, where / "saved", epoch, step, mode="cache", **told)
            for epoch, step in ((0, STEPS), (2, 2))
        },
        "of one": {
            name: gone_on(rank, where / "one" / name, mode="cache", policy=POLICY, cache_dir=where / "cache-of-one")
            for name in ("0-8", "1-2")
        },
        "none": run(rank, policy="none"),
        "plain": plain(rank, batches_of(rank)),
        "refusals": refusals(rank),
        "split": split(rank),
    }
