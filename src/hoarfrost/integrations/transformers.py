"""transformers' Trainer, and what is derived from it: a mixin that freezes, and feeds it from stored features."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..checkpoints import save_tree
from ..cuts import first_tensor
from ..errors import ArgumentError, DatasetError
from ..freezer import Freezer
from ..report import scalars_of
from ..samples import UserLoader
from .doors import hold, needs, release
from .keywords import check_keywords
from .numbered_batches import NumberedBatches
from .progress import Progress

with needs("transformers"):
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import Trainer

    from .last_batch import StoredEvaluation
    from .processes import WHOLE, check_processes
    from .shared_loader import unshared
    from .trainer_checkpoint import FILE, load_renamed, saved_in

__all__ = ["FreezingMixin", "FreezingTrainer"]

TAKEN = {
    "model": "it is the Trainer's",
    "dataset": "it is the Trainer's train_dataset",
    "epochs": "TrainingArguments say them",
    "optimizer": "the Trainer makes it, or takes optimizers=",
    "batch_size": "say per_device_train_batch_size",
    "collate_fn": "it is the Trainer's data_collator",
    "workers": "say dataloader_num_workers",
    "device": "it is the Trainer's",
    "precision": "say TrainingArguments(bf16=True), and the prepared model brings its autocast along",
    "route": "the model is always routed here",
}
"""Keywords of a Freezer that have no place in `freezing`, and why."""

_Trainer: Any = object
"""What stands behind the mixin, for whoever reads types."""


class FreezingMixin(_Trainer):  # type: ignore[misc]
    """Stands before `transformers.Trainer`, or a subclass of it, among the bases of a class.

    ```python
    class FreezingTrainer(FreezingMixin, Trainer): ...


    trainer = FreezingTrainer(model, args, train_dataset=..., eval_dataset=..., freezing={"policy": "schedule"})
    trainer.train()
    ```

    The Trainer's loop, loss, callbacks, logs and evaluation stay as they are, and so does the order of samples, which
    behind a freeze are mixed chunk by chunk. Evaluation is on the whole model; what is saved has its own names.
    Checkpoints hold all that was decided in a file `hoarfrost.safetensors`, and `resume_from_checkpoint` goes on with
    it. Behind a freeze `total_flos` counts what a step runs then. After `train` nothing is frozen any more, unless
    `freezing={"keep_frozen": True}`. Several processes share each epoch's samples, none twice.

    Args:
        freezing: keywords of `hoarfrost.Freezer`. The default policy is "schedule"; of a model with adapters "frozen".
            `seed` is the Trainer's `data_seed` or `seed`.
        stored_evaluation: codec ("exact", or a number of bits) of an evaluation set's features, from which `evaluate`
            within the training is fed behind a freeze; None: it runs the whole model on inputs. In one process.
        log_records: whether the numbers of the freezer's records are logged as `hoarfrost/...`.

    Attributes:
        freezer: of the training that is on, or was last; None before.

    Raises:
        ArgumentError: a keyword that a Freezer does not have, or the Trainer says itself; in `train`, a model that is
            not called with what a batch holds, or whose processes have not all of it.
    """

    freezer: Freezer | None
    _signature_columns: Any

    def __init__(
        self,
        *args: Any,
        freezing: Mapping[str, Any] | None = None,
        stored_evaluation: str | int | None = None,
        log_records: bool = False,
        **keywords: Any,
    ) -> None:
        self.freezer = None
        self._freezing = _checked(freezing)
        self._stored_evaluation, self._log_records = stored_evaluation, log_records
        self._training: DataLoader[Any] | None = None
        self._batches: NumberedBatches | None = None
        self._coming: Mapping[str, Any] | None = None
        """What the checkpoint says that this training goes on from."""
        self._progress = Progress(0, 0, 0)
        self._wrapped: Any = None
        self._metrics: dict[str, Any] = {}
        self._flops: dict[tuple[int, str], int] = {}
        self._evaluations: dict[int, StoredEvaluation] = {}
        super().__init__(*args, **keywords)

    # -- the loop's beginning and end

    def train(self, *args: Any, **keywords: Any) -> Any:
        """As ever; the freezer is closed behind it, whatever happens."""
        try:
            told = super().train(*args, **keywords)
            if self.freezer is not None:
                self.freezer.loader.finish(self._metrics, last=True)
            return told
        finally:
            self._coming = None
            self._close()

    def get_train_dataloader(self) -> DataLoader[Any]:
        """While it trains, the freezer's batches; else as ever."""
        loader: DataLoader[Any] = super().get_train_dataloader()
        if not self.is_in_train:
            return loader
        self._close()  # of an attempt with larger batches
        self._check()
        self._training, self._metrics = unshared(loader), {}
        state = None if self._coming is None else self._coming["freezer"]
        told = UserLoader.of(self._training, None, None, 0)
        self._progress = Progress.of(state, told, self.args.world_size, self.args.gradient_accumulation_steps)
        self._batches = NumberedBatches(self._progress.steps, metrics=self._taken_metrics)
        return self._batches.loader()

    # The Trainer divides its global_step by the updates of an epoch, which are others where more or fewer processes go
    # on. `global_step` stays what it is, the updates made; epoch, batch and schedule are those of the freezer's state.

    def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
        """As ever; with `max_steps` as many epochs as the updates take that are still to come."""
        epochs, *others = super().set_initial_training_values(args, dataloader)
        if self._coming is not None and args.max_steps > 0:
            epochs = self._progress.epochs(args.max_steps, self._coming["made"])
        return (epochs, *others)

    def _init_training_state(self, *args: Any, **keywords: Any) -> Any:
        told = super()._init_training_state(*args, **keywords)
        if self._coming is None:
            return told
        progress = self._progress
        if self.args.max_steps < 0:
            self.state.max_steps += self.state.global_step - progress.done
        skipped = 0 if self.args.ignore_data_skip or not progress.left else progress.skipped
        return progress.epoch + (not progress.left), skipped

    def _run_epoch(self, *args: Any, **told: Any) -> Any:
        """As ever. An epoch that others began ends with what is left of it."""
        progress = self._progress
        if self._coming is not None and told["epoch"] == progress.epoch and not self.args.ignore_data_skip:
            told["steps_in_epoch"] = progress.skipped + progress.left
        return super()._run_epoch(*args, **told)

    def _set_signature_columns_if_needed(self) -> None:
        """As ever, in an order that is the same in every process: the collator holds them, and a cache knows what its
        samples were collated by."""
        super()._set_signature_columns_if_needed()
        if self._signature_columns is not None:
            self._signature_columns = sorted(self._signature_columns)

    def _wrap_model(self, model: Any, training: bool = True, *args: Any, **keywords: Any) -> Any:
        """As ever. Where several processes train, what the Trainer makes a moment later is made here, since it has no
        name for it by the time that the freezer is made."""
        wrapped = super()._wrap_model(model, training, *args, **keywords)
        if training and self._batches is not None and self.args.world_size > 1:
            plain = wrapped is self.model and not getattr(self, "is_distributed_loading_by_transformers", False)
            self._wrapped = wrapped = self.accelerator.prepare(wrapped) if plain else wrapped
        return wrapped

    def create_scheduler(self, *args: Any, **keywords: Any) -> Any:
        """As ever. It is made when model and optimizer are prepared, and before their states are loaded: so is the
        freezer."""
        scheduler = super().create_scheduler(*args, **keywords)
        if self._batches is not None and self._batches.freezer is None:
            with hold(self.model, self):
                self.freezer = self._batches.freezer = self._made(self._training)
            self._flops, self._evaluations = {}, {}
        return scheduler

    def _made(self, loader: Any) -> Freezer:
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        try:
            model, told = self._divided(loader)
            freezer = Freezer(
                model,
                loader,
                epochs=self.state.num_train_epochs,
                optimizer=self.optimizer,
                device=self.args.device,
                route=True,
                **{"seed": seed, **told, **self._freezing},
            )
        except DatasetError as error:
            why = self._why_not_fed(loader)
            if why is None:
                raise
            raise ArgumentError(why) from error
        if self._log_records:
            freezer.listener = self._log_record
        return freezer

    def _divided(self, loader: Any) -> tuple[nn.Module, dict[str, Any]]:
        """What the freezer divides, and further keywords of it."""
        adapted = getattr(self.model, "peft_config", None)
        told = {"policy": "frozen", "input": self._columns(loader)} if adapted else {}
        return self.model if self._wrapped is None else self._wrapped, told

    def _columns(self, loader: Any) -> tuple[str, ...]:
        """What of a batch the model within the adapters takes: their own forward takes anything."""
        batch = self._batch_of_few(loader)
        takes = inspect.signature(self.model.get_base_model().forward).parameters
        return tuple(name for name in takes if name in batch)

    def _batch_of_few(self, loader: Any) -> Any:
        """By which is seen what batches hold."""
        return loader.collate_fn([loader.dataset[number] for number in range(min(2, len(loader.dataset)))])

    def _why_not_fed(self, loader: Any) -> str | None:
        """Why a model that is called with other things than a batch's entries cannot be, in words; None: it is not."""
        if getattr(self.model, "peft_config", None):
            return None
        takes = inspect.signature(self.model.forward).parameters
        try:
            batch = loader.collate_fn([loader.dataset[0]])
        except Exception:  # whatever it is, it was told by then
            return None
        if not isinstance(batch, Mapping) or set(takes) & set(batch):
            return None
        return (
            f"{type(self).__name__} cannot be fed from stored features: its batches hold "
            f"{', '.join(map(repr, batch))}, of which {type(self.model).__name__} takes none "
            f"({', '.join(map(repr, takes))}). For a trainer of sentence-transformers, which calls the model for each "
            "column of texts, take the mixin of hoarfrost.integrations.sentence_transformers; another that puts "
            "together what it calls the model with trains without Hoarfrost, and in a loop of your own you say "
            "Freezer(..., input=({keyword: key, ...}, ...)), a mapping for each call"
        )

    def _close(self) -> None:
        self._batches = self._training = None
        if self.freezer is not None:
            self.freezer.close()
            release(self.model, self)

    def _check(self) -> None:
        """What features cannot be fed to."""
        for name, there in (("FSDP", self.is_fsdp_enabled), ("DeepSpeed", self.is_deepspeed_enabled)):
            if there:
                raise ArgumentError(f"a model under {name} {WHOLE}")
        check_processes(self.accelerator)
        if self.args.n_gpu > 1:
            raise ArgumentError(
                f"DataParallel on {self.args.n_gpu} GPUs copies the model for each step, and a copy is not divided: "
                "run one process for each GPU, torchrun --nproc-per-node"
            )
        if self._stored_evaluation is not None and self.args.world_size > 1:
            raise ArgumentError(
                f"stored_evaluation={self._stored_evaluation!r} gives all samples to each process, and "
                f"{self.args.world_size} gather theirs: leave it out, and the whole model is evaluated on inputs"
            )
        if self.args.include_num_input_tokens_seen == "all":
            raise ArgumentError(
                'include_num_input_tokens_seen="all" counts inputs, of which there are none behind a freeze: say '
                '"non_padding"'
            )

    # -- within the loop

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """As ever. Behind a freeze the model's forward goes on at the cut with the arguments that it was divided with,
        so that it cannot take the number of items of several batches: each batch of a step then weighs the same."""
        if self.freezer is not None and self.freezer.depth and self.compute_loss_func is None:
            num_items_in_batch = None
        return super().training_step(model, inputs, num_items_in_batch)

    def log(self, logs: dict[str, Any], *args: Any, **keywords: Any) -> None:
        """As ever; the policy sees it too, once the epoch is over."""
        if self.is_in_train:
            self._metrics |= {name: value for name, value in logs.items() if isinstance(value, int | float)}
        super().log(logs, *args, **keywords)

    def _log_record(self, record: Mapping[str, Any]) -> None:
        super().log({f"hoarfrost/{name}": value for name, value in scalars_of(record).items()})

    def _taken_metrics(self) -> dict[str, Any]:
        """Of the epoch that is over."""
        metrics, self._metrics = self._metrics, {}
        return metrics

    def num_examples(self, dataloader: DataLoader[Any] | StoredEvaluation) -> int:
        """As ever; of the freezer's batches those in their data set."""
        if isinstance(dataloader, StoredEvaluation):
            return dataloader.samples
        mine = self._training is not None and dataloader.dataset is self._batches
        return int(super().num_examples(self._training if mine else dataloader))

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """As ever; behind a freeze FLOPs as they are counted in a step."""
        freezer = self.freezer
        if freezer is None or not freezer.depth or not self.is_in_train:
            return int(super().floating_point_ops(inputs))
        now = freezer.depth, freezer.source
        if now not in self._flops:
            self._flops[now] = freezer.step_flops()
        return self._flops[now] * len(first_tensor(dict(inputs)))

    def get_eval_dataloader(self, eval_dataset: str | Dataset[Any] | None = None) -> Any:
        """As ever; where it is told so, behind a freeze what the frozen front makes of them, stored."""
        loader = super().get_eval_dataloader(eval_dataset)
        freezer = self.freezer
        if self._stored_evaluation is None or freezer is None or not freezer.depth or not self.is_in_train:
            return loader
        known = self._evaluations.get(id(loader.dataset))
        if known is None:
            size = self.args.eval_batch_size
            stored = freezer.evaluation(loader.dataset, batch_size=size, codec=self._stored_evaluation)
            known = StoredEvaluation(stored, size)
            self._evaluations[id(loader.dataset)] = known
        return known

    # -- checkpoints

    def _save(self, *args: Any, **keywords: Any) -> None:
        """As ever. What saving notes in the settings of one process's model (its class, its dtype) is taken back while
        it trains: a front with other settings is another front."""
        modules = () if self._batches is None else self.model.modules()
        configs = (getattr(getattr(module, "config", None), "__dict__", None) for module in modules)
        before = [(settings, dict(settings)) for settings in {id(c): c for c in configs if c is not None}.values()]
        super()._save(*args, **keywords)
        for settings, known in before:
            settings.clear()
            settings.update(known)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.freezer is not None and self.args.should_save:
            told = {"freezer": self.freezer.state_dict(), "metrics": self._metrics, "updates": self._progress.updates}
            save_tree(Path(output_dir) / FILE, told)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """What is frozen comes before the optimizer's state, which is of what trains."""
        saved, progress = self._coming, self._progress
        if saved is not None and self.freezer is not None and self._batches is not None:
            self.freezer.load_state_dict(saved["freezer"])
            self._metrics = dict(saved["metrics"])
            if not progress.left:
                self._batches.begin_next()
            elif not self.args.ignore_data_skip:
                self._batches.go_on_at(progress.skipped)
        super()._load_optimizer_and_scheduler(checkpoint)
        if saved is None or self.args.max_steps > 0 or saved.get("updates") in (None, progress.updates):
            return
        if self._created_lr_scheduler and isinstance(self.lr_scheduler, LambdaLR):
            self.lr_scheduler.last_epoch = progress.done

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **keywords: Any) -> None:
        if self.is_in_train:
            self._coming = saved_in(Path(resume_from_checkpoint))
        model = keywords.get("model", args[0] if args else None)
        if not load_renamed(resume_from_checkpoint, self.model if model is None else model):
            super()._load_from_checkpoint(resume_from_checkpoint, *args, **keywords)

    def _load_best_model(self) -> None:
        if not load_renamed(self.state.best_model_checkpoint, self.model):
            super()._load_best_model()


class FreezingTrainer(FreezingMixin, Trainer):
    """`transformers.Trainer` that takes `freezing={...}`: see `FreezingMixin`."""


def _checked(freezing: Mapping[str, Any] | None) -> dict[str, Any]:
    if freezing is not None and not isinstance(freezing, Mapping):
        raise ArgumentError(f"freezing must be keywords of a Freezer by name, not {freezing!r}")
    told = dict(freezing or {})
    check_keywords(told, TAKEN)
    return told
