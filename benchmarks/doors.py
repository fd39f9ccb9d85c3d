"""What a door into a framework costs: its trainer with the door, against the same trainer on a Freezer made by hand.

Measures: seconds of an epoch on stored features, by the Freezer's own clock, as a ratio within each turn.
  lightning  `Freeze` and its loader, to a LightningModule that calls `freezer(...)` on `freezer.loader`.
  accelerate `FreezingLoader`, to a loop on Accelerate that calls the routed model on `freezer.loader`.
  transformers `FreezingTrainer`, to a Trainer of a routed model whose training loader is `freezer.loader`.
  timm       `adopt`, to a `ClassificationTask` of which the model is routed, on `freezer.loader`.
On: a small ResNet (transformers' own for its Trainer) on the embedded images, frozen from the start up to its first
stage, cached, one thread.
Repeats: `--turns` of both in turn, the other one first in every second; the median ratio, and the quartiles.

    python benchmarks/doors.py --turns 9
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from argparse import Namespace
from collections.abc import Callable
from contextlib import closing
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.data import open_data
from hoarfrost.models import cifar_resnet
from measuring.timing import quartiles

CUT, EPOCHS, BATCH = "layer1", 5, 64
NORMALISED = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])])
TOLD: dict[str, Any] = {"policy": {0: CUT}, "mode": "cache", "views": 1, "ladder": 8, "verbose": False}


def model_of() -> nn.Module:
    torch.manual_seed(0)
    return cifar_resnet(widths=(16, 32, 64))


def data_of(samples: int, transform: Any = None) -> Any:
    data = open_data("embedded").train.first(samples)
    data.transform = transform
    return data


def seconds_of(history: list[dict[str, Any]]) -> float:
    """Of an epoch, the first two apart, in which the cache is built and memory fills."""
    return statistics.median([record["seconds"] for record in history if record["event"] == "epoch"][2:])


def lightning(samples: int) -> tuple[Callable[[], float], Callable[[], float]]:
    import lightning as L

    from hoarfrost.integrations.lightning import Freeze

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model_of()
            self.call: Any = None

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy((self.call or self.model)(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.model.parameters(), 0.05, 0.9)

    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}

    class Seconds(L.Callback):
        """Of each epoch: Lightning takes as many batches as a loader has, and does not ask whether it is at its end."""

        def __init__(self) -> None:
            self.epochs: list[float] = []
            self._began = 0.0

        def on_train_epoch_start(self, *_: Any) -> None:
            self._began = time.perf_counter()

        def on_train_epoch_end(self, *_: Any) -> None:
            self.epochs.append(time.perf_counter() - self._began)

    def trainer_of(callbacks: list[Any]) -> Any:
        return L.Trainer(max_epochs=EPOCHS, accelerator="cpu", logger=False, callbacks=callbacks, **quiet)

    def door() -> float:
        freeze, seconds = Freeze(data_of(samples, NORMALISED), batch_size=BATCH, **TOLD), Seconds()
        trainer_of([freeze, seconds]).fit(Module(), freeze.loader())
        return statistics.median(seconds.epochs[2:])

    def by_hand() -> float:
        module, seconds = Module(), Seconds()
        data, optimizer = data_of(samples, NORMALISED), module.configure_optimizers()
        with Freezer(module.model, data, batch_size=BATCH, epochs=EPOCHS, optimizer=optimizer, **TOLD) as freezer:
            object.__setattr__(module, "call", freezer)
            module.configure_optimizers = lambda: optimizer
            trainer_of([seconds]).fit(module, freezer.loader)
        return statistics.median(seconds.epochs[2:])

    return door, by_hand


def accelerate(samples: int) -> tuple[Callable[[], float], Callable[[], float]]:
    from accelerate import Accelerator
    from torch.utils.data import DataLoader

    from hoarfrost.integrations.accelerate import FreezingLoader

    def prepared() -> tuple[Any, nn.Module, Any]:
        accelerator = Accelerator(cpu=True)
        model = model_of()
        return (accelerator, *accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.05, 0.9)))

    def train(accelerator: Any, model: nn.Module, optimizer: Any, loader: Any) -> float:
        seconds = []
        for _ in range(EPOCHS):
            began = time.perf_counter()
            for inputs, targets in loader:
                accelerator.backward(F.cross_entropy(model(inputs), targets))
                optimizer.step()
                optimizer.zero_grad()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds[2:])

    def door() -> float:
        made = prepared()
        batches = DataLoader(data_of(samples, NORMALISED), BATCH, shuffle=True)
        with closing(FreezingLoader(*made, batches, epochs=EPOCHS, **TOLD)) as loader:
            return train(*made, loader)

    def by_hand() -> float:
        accelerator, model, optimizer = prepared()
        told = {"batch_size": BATCH, "epochs": EPOCHS, "optimizer": optimizer, "route": True, **TOLD}
        with Freezer(model, data_of(samples, NORMALISED), **told) as freezer:
            return train(accelerator, model, optimizer, freezer.loader)

    return door, by_hand


def transformers(samples: int) -> tuple[Callable[[], float], Callable[[], float]]:
    from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainerCallback, TrainingArguments

    from hoarfrost.integrations.transformers import FreezingTrainer

    images = [(NORMALISED(image), label) for image, label in data_of(samples)]
    data = [{"pixel_values": image, "labels": label} for image, label in images]
    told = {**TOLD, "policy": {0: "resnet.encoder.stages.0"}}

    def network() -> nn.Module:
        torch.manual_seed(0)
        sizes = {"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [1, 1, 1], "layer_type": "basic"}
        return ResNetForImageClassification(ResNetConfig(num_channels=1, num_labels=10, **sizes))

    class Seconds(TrainerCallback):
        def __init__(self) -> None:
            self.epochs: list[float] = []
            self._began = 0.0

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self._began = time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self.epochs.append(time.perf_counter() - self._began)

    quiet = {"save_strategy": "no", "report_to": [], "use_cpu": True, "disable_tqdm": True, "logging_strategy": "no"}

    def trained(kind: Any, folder: str, model: nn.Module, **keywords: Any) -> float:
        args = TrainingArguments(folder, num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH, **quiet)
        seconds = Seconds()
        optimizer = keywords.pop("optimizer", None) or torch.optim.SGD(model.parameters(), 0.05, 0.9)
        given = {"train_dataset": data, "callbacks": [seconds], "optimizers": (optimizer, None), **keywords}
        kind(model, args, **given).train()
        return statistics.median(seconds.epochs[2:])

    def door() -> float:
        with TemporaryDirectory() as folder:
            return trained(FreezingTrainer, folder, network(), freezing=told)

    def by_hand() -> float:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9)
        beside = {"batch_size": BATCH, "epochs": EPOCHS, "optimizer": optimizer, "route": True, **told}
        with TemporaryDirectory() as folder, Freezer(model, data, **beside) as freezer:

            class Fed(Trainer):
                def __init__(self, *args: Any, **keywords: Any) -> None:
                    super().__init__(*args, **keywords)
                    self.model_accepts_loss_kwargs = False  # behind a cut no other number of items is taken

                def get_train_dataloader(self) -> Any:
                    return freezer.loader

                def floating_point_ops(self, inputs: Any) -> int:
                    return 0  # features may be several tensors

            return trained(Fed, folder, model, optimizer=optimizer)

    return door, by_hand


def timm(samples: int) -> tuple[Callable[[], float], Callable[[], float]]:
    from timm.task import ClassificationTask

    from hoarfrost.integrations.timm import adopt

    args = Namespace(batch_size=BATCH, epochs=EPOCHS, input_size=(1, 28, 28), mean=(0.286,), std=(0.353,), no_aug=True)

    def train(task: Any, loader: Any, optimizer: Any) -> None:
        for _ in range(EPOCHS):
            for inputs, targets in loader:
                optimizer.zero_grad()
                task(inputs, targets)["loss"].backward()
                optimizer.step()

    def door() -> float:
        model = model_of()
        task, optimizer = ClassificationTask(model, verbose=False), torch.optim.SGD(model.parameters(), 0.05, 0.9)
        loader = adopt(task, data_of(samples), optimizer, args, **TOLD)
        train(task, loader, optimizer)
        loader.close()
        return seconds_of(loader.freezer.history)

    def by_hand() -> float:
        model = model_of()
        task, optimizer = ClassificationTask(model, verbose=False), torch.optim.SGD(model.parameters(), 0.05, 0.9)
        told = {"batch_size": BATCH, "epochs": EPOCHS, "optimizer": optimizer, "route": True, **TOLD}
        with Freezer(model, data_of(samples, NORMALISED), **told) as freezer:
            train(task, freezer.loader, optimizer)
        return seconds_of(freezer.history)

    return door, by_hand


DOORS = {"lightning": lightning, "transformers": transformers, "accelerate": accelerate, "timm": timm}


def measure(name: str, samples: int, turns: int) -> dict[str, float]:
    """The ratio, and the milliseconds of a step by hand."""
    door, by_hand = DOORS[name](samples)
    ratios, seconds = [], []
    for turn in range(turns):
        mine, its = (door(), by_hand()) if turn % 2 else (by_hand(), door())[::-1]
        ratios.append(mine / its)
        seconds.append(its)
    step_ms = 1e3 * statistics.median(seconds) / ceil(samples / BATCH)
    return {**quartiles(ratios), "step_ms": step_ms, "turns": turns}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[*DOORS], choices=[*DOORS])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--out", type=Path, help="a JSON file with all the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="lightning")
    found = {name: measure(name, options.samples, options.turns) for name in options.only}
    print("| door | ratio | from | to | a step, ms |\n|---|---|---|---|---|")
    for name, of in found.items():
        print(f"| {name} | {of['median']:.3f} | {of['low']:.3f} | {of['high']:.3f} | {of['step_ms']:.1f} |")
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
