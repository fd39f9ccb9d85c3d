"""transformers' Trainer in two processes, with a freezer in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset

from hoarfrost.errors import HoarfrostError
from hoarfrost.integrations.transformers import FreezingTrainer
from shared.small_transformers import Images, Texts, bert, padded, vit

SAMPLES, EPOCHS = 27, 3  # 14 and 13 samples: batches of 4, 4 and 6 or 5
STEPS = 3


class Trainer(FreezingTrainer):
    """Notes what each step is shown, and each evaluation gathers."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self.batches: list[dict[str, Tensor]] = []
        self.shown: list[tuple[int, list[int]]] = []
        """The samples of each batch, with its epoch."""
        self.evaluated: list[tuple[int, float]] = []
        super().__init__(*args, compute_metrics=self._metrics_of, **keywords)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        self.batches.append({name: value.clone() for name, value in inputs.items() if isinstance(value, Tensor)})
        self.shown.append((self.freezer._epochs.epoch, inputs["labels"].tolist()))
        return super().training_step(model, inputs, num_items_in_batch)

    def _metrics_of(self, told: Any) -> dict[str, float]:
        self.evaluated.append((len(told.label_ids), float(told.predictions.sum())))
        return {"outputs": self.evaluated[-1][1]}


class Plain(transformers.Trainer):
    """The Trainer itself, over batches that were noted."""

    noted: list[dict[str, Tensor]]

    def get_train_dataloader(self) -> Any:
        return DataLoader(Epochs(self.noted), collate_fn=lambda batch: batch[0])


class Epochs(Dataset[Any]):
    """A data set of whole batches, those of the next epoch each time that it is begun."""

    def __init__(self, batches: list[dict[str, Tensor]]) -> None:
        self._batches, self._given = batches, 0

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, index: int) -> Any:
        self._given += 1
        return self._batches[self._given - 1]


def trainer_of(kind: type, out: Path, name: str = "vit", keywords: dict[str, Any] | None = None, **args: Any) -> Any:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    options = {
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "ddp_backend": "gloo" if distributed.is_initialized() else None,
        "disable_tqdm": True,
        **args,
    }
    data = Images if name == "vit" else Texts  # each sample of a class of its own: a step tells which it is shown
    return kind(
        (vit if name == "vit" else bert)(SAMPLES),
        transformers.TrainingArguments(str(out), **options),
        train_dataset=data(SAMPLES, SAMPLES),
        eval_dataset=data(SAMPLES, SAMPLES),
        data_collator=None if name == "vit" else padded,
        **(keywords or {}),
    )


def told(policy: Any, mode: str = "cache") -> dict[str, Any]:
    return {"freezing": {"policy": policy, "mode": mode, "ladder": "exact", "views": 1, "verbose": False}}


POLICIES: dict[str, Any] = {
    "vit": {1: "vit.layers.0", 2: "vit.layers.1"},
    "bert": {1: "bert.encoder.layer.0", 2: "bert.encoder.layer.1"},
}


def trained(
    out: Path,
    name: str = "vit",
    policy: Any = None,
    mode: str = "cache",
    resume: Path | None = None,
    compiled: bool = False,
    **args: Any,
) -> dict[str, Any]:
    chosen = POLICIES[name] if policy is None else policy
    trainer = trainer_of(Trainer, out, name, told(chosen, mode), **args)
    if compiled:
        trainer.model.compile(backend="eager")
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    freezer = trainer.freezer
    return {
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "batches": trainer.batches,
        "shown": trainer.shown,
        "max steps": trainer.state.max_steps,
        "evaluated": trainer.evaluated,
        "weights": {key: value.clone() for key, value in trainer.model.state_dict().items()},
        "history": freezer.history,
        "thawed": all(parameter.requires_grad for parameter in trainer.model.parameters()),
        "steps": trainer.state.global_step,
    }


def plain(out: Path, noted: list[dict[str, Tensor]]) -> dict[str, Any]:
    trainer = trainer_of(Plain, out, gradient_accumulation_steps=2)
    trainer.noted = noted
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"losses": losses, "weights": trainer.model.state_dict(), "steps": trainer.state.global_step}


def refusals(out: Path) -> dict[str, str]:
    def refused(keywords: dict[str, Any] | None = None, sharded: bool = False, name: str = "vit", **args: Any) -> str:
        trainer = trainer_of(Trainer, out, name, keywords={**told("none"), **(keywords or {})}, **args)
        trainer.is_fsdp_enabled = trainer.is_fsdp_enabled or sharded
        try:
            trainer.train()
        except HoarfrostError as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    return {
        "FSDP": refused(sharded=True),
        "stored": refused({"stored_evaluation": "exact"}),
        "by length": refused(name="bert", train_sampling_strategy="group_by_length"),
        "compiled": refused(torch_compile=True, torch_compile_backend="eager"),
    }


def everything(rank: int, where: Path) -> dict[str, Any]:
    evaluating = {"gradient_accumulation_steps": 2, "eval_strategy": "epoch"}
    halves = {"bf16": True, "save_strategy": "steps", "save_steps": 4}
    cached = trained(where / "whole", save_strategy="epoch", **evaluating)
    none = trained(where / "none", policy="none", gradient_accumulation_steps=2)
    return {
        "cached": cached,
        "recomputed": trained(where / "again", mode="recompute", **evaluating),
        "compiled": trained(where / "compiled", compiled=True, **evaluating),
        "resumed": trained(where / "resumed", resume=where / "whole" / "checkpoint-2", **evaluating),
        "texts": trained(where / "texts", "bert", **halves),
        "texts recomputed": trained(where / "again", "bert", mode="recompute", bf16=True),
        "texts resumed": trained(where / "resumed", "bert", resume=where / "texts" / "checkpoint-4", bf16=True),
        "of one": {
            step: trained(where / "of-one", resume=where / "one" / f"checkpoint-{step}", gradient_accumulation_steps=2)
            for step in (4, 5)
        },
        "none": none,
        "plain": plain(where / "plain", none["batches"]),
        "refusals": refusals(where / "refused"),
    }
