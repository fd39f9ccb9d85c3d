"""Lightning's Trainer in two processes, with a Freeze among its callbacks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hoarfrost.errors import HoarfrostError
from hoarfrost.integrations.lightning import Freeze
from shared.distributed_runs import Numbered
from shared.nets import resnet
from shared.runs import sgd

SAMPLES, BATCH, EPOCHS = 59, 8, 4  # 30 and 29 samples: three batches of 8, and one of 6 or 5
STEPS = 4
POLICY = {1: "layer1", 3: "layer2"}
EXACT: dict[str, Any] = {"ladder": "exact", "views": 1, "verbose": False}


ALONE: dict[str, Any] = {"devices": 1, "strategy": "auto", "plugins": []}
"""Of a Trainer in a single process."""


class Module(L.LightningModule):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.model = resnet()
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.epochs: list[int] = []
        self.losses: list[float] = []
        self.evaluated: list[float] = []
        self.wrappers: list[int] = []
        self.steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, numbers = batch
        self.batches.append((inputs.clone(), numbers.clone()))
        self.epochs.append(self.current_epoch)
        loss = F.cross_entropy(self.model(inputs), numbers % 10)
        self.losses.append(loss.item())
        self.wrappers.append(id(self.trainer.strategy.model))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, numbers = batch
        self.log("val_loss", F.cross_entropy(self.model(inputs), numbers % 10), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.evaluated.append(float(self.trainer.callback_metrics["val_loss"]))

    def configure_optimizers(self) -> Any:
        self.steps = self.trainer.estimated_stepping_batches
        optimizer = sgd(self.model)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]


def trainer_of(callbacks: list[Any], **options: Any) -> Any:
    told = {
        "max_epochs": EPOCHS,
        "accelerator": "cpu",
        "devices": 2,
        "strategy": "ddp",
        "plugins": [LightningEnvironment()],
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(callbacks=callbacks, **{**told, **options})


def fitted(
    saves: Path | None = None, resume: Path | None = None, trainer: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    module = Module()
    data = DataLoader(Numbered(SAMPLES), BATCH, shuffle=True)
    freeze = Freeze(data, **{"policy": POLICY, **EXACT, **options})
    saving = ModelCheckpoint(saves, "{step}", every_n_train_steps=2, save_top_k=-1) if saves else None
    validation = DataLoader(Numbered(24), 4)
    trains = trainer_of([freeze, *([saving] if saving else [])], **(trainer or {}))
    trains.fit(module, freeze.loader(), validation, ckpt_path=None if resume is None else str(resume))
    return {
        "losses": module.losses,
        "shown": [numbers.tolist() for _, numbers in module.batches],
        "epochs": module.epochs,
        "done": trains.global_step,
        "batches": module.batches,
        "evaluated": module.evaluated,
        "wrappers": len(set(module.wrappers)),
        "steps": module.steps,
        "weights": {name: value.clone() for name, value in module.model.state_dict().items()},
        "history": freeze.freezer.history,
        "thawed": all(parameter.requires_grad for parameter in module.parameters()),
    }


class Noted(Dataset[Any]):
    """A data set of whole batches, those of the next epoch each time that it is begun."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches, self._given = batches, 0

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, index: int) -> Any:
        self._given += 1
        return self._batches[self._given - 1]


def plain(batches: list[Any]) -> dict[str, Any]:
    """Lightning's own loop over the same batches."""
    module = Module()
    data = DataLoader(Noted(batches), collate_fn=lambda batch: batch[0])
    trainer_of([], use_distributed_sampler=False).fit(module, data)
    return {"losses": module.losses, "weights": module.model.state_dict()}


def refusals() -> dict[str, str]:
    def refused(strategy: Any, data: Any = None) -> str:
        freeze = Freeze(data or DataLoader(Numbered(SAMPLES), BATCH, shuffle=True), policy={1: "layer1"}, **EXACT)
        try:
            trainer_of([freeze], strategy=strategy).fit(Module(), freeze.loader())
        except HoarfrostError as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    class FSDPStrategy(DDPStrategy):
        """Has the name of one that wants GPUs."""

    averaging = DDPStrategy()
    averaging._model_averager = object()
    return {
        "FSDP": refused(FSDPStrategy()),
        "averaging": refused(averaging),
        "in order": refused("ddp", DataLoader(Numbered(SAMPLES), BATCH)),
    }


def everything(rank: int, where: Path) -> dict[str, Any]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        cached = fitted(where / "saved", mode="cache", cache_dir=where / "cache")
    none = fitted(policy="none")
    halves = {"precision": "bf16-mixed", "accumulate_grad_batches": 2}
    return {
        "cached": cached,
        "said": [str(warning.message) for warning in said if "hoarfrost" in str(warning.message)],
        "recomputed": fitted(mode="recompute"),
        "bf16": fitted(mode="cache", trainer=halves),
        "bf16 recomputed": fitted(mode="recompute", trainer=halves),
        "resumed": {
            step: fitted(mode="cache", cache_dir=where / "cache", resume=where / "saved" / f"step={step}.ckpt")
            for step in (4, 6)
        },
        "of one": {
            step: fitted(mode="cache", cache_dir=where / "cache-of-one", resume=where / "one" / f"step={step}.ckpt")
            for step in (8, 10)
        },
        "none": none,
        "plain": plain(none["batches"]),
        "refusals": refusals(),
        "names": sorted(torch.load(where / "saved" / "step=8.ckpt", weights_only=False)["state_dict"]),
    }
