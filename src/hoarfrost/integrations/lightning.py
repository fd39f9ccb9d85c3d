"""Lightning's Trainer: a callback that freezes, and the loader that it is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..errors import ArgumentError
from ..freezer import Freezer
from ..freezing import reduced_by
from ..samples import UserLoader, steps_of
from .doors import Optimizers, hold, needs, release
from .progress import Progress

with needs("lightning"):
    try:
        from lightning.pytorch import Callback
    except ImportError:  # the same releases, under their older name
        from pytorch_lightning import Callback  # type: ignore[assignment]

__all__ = ["Freeze", "Loader"]

PRECISIONS = {"32-true": None, "bf16-mixed": "bf16", "16-mixed": "fp16"}
"""Lightning's names, and the Freezer's."""

STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")

TAKEN = {
    "model": "it is the module's attribute: say attribute=",
    "optimizer": "the module's configure_optimizers makes it",
    "device": "the Trainer's is taken",
    "precision": "the Trainer's is taken: Trainer(precision=...)",
    "route": "self.model(...) is always routed here",
}
"""Keywords of a Freezer that have no place here, and why."""

BATCH_HOOKS = ("on_before_batch_transfer", "on_after_batch_transfer")


class Freeze(Callback):
    """Freezes front layers of a LightningModule's model as they settle, and feeds the rest from stored features.

    ```python
    freeze = Freeze(train_set, batch_size=128, cache_dir="cache")
    trainer = Trainer(max_epochs=30, callbacks=[freeze])
    trainer.fit(module, freeze.loader(), val_loader)
    ```

    The module stays as it is: in its `training_step` `self.model(x)` runs what still trains on what the loader gave; in
    validation, on images, all of it. `max_epochs` are the Freezer's `epochs`, the metrics of an epoch go to the policy,
    and the Trainer's checkpoints hold all that was decided, so that `ckpt_path=` goes on with it.

    Args:
        dataset: as the Freezer's, a DataLoader too.
        attribute: of the module, where its model is; dots lead deeper.
        keywords: of `hoarfrost.Freezer`.

    Attributes:
        freezer: of the training that is on, or of the last one; None before.
        broken_off: an error has ended the training, and the model is left as it was then.

    Raises:
        ArgumentError: a keyword that the Trainer says already.
    """

    def __init__(self, dataset: Dataset[Any] | DataLoader[Any], *, attribute: str = "model", **keywords: Any) -> None:
        for name in TAKEN.keys() & keywords.keys():
            raise ArgumentError(f"Freeze(..., {name}=...): {TAKEN[name]}")
        self._dataset, self._attribute, self._keywords = dataset, attribute, keywords
        self.freezer: Freezer | None = None
        self._loader = Loader(self)
        self._trainer: Any = None
        self._open = self._resumed = self.broken_off = False
        self._steps: int | None = None
        """Batches of the epoch that the Trainer is in, where that differs from one to the next; else None."""
        self._coming: Mapping[str, Any] | None = None
        """The state of a checkpoint, until there is a freezer that takes it."""
        self._last: dict[str, Any] = {}
        self._metrics: dict[str, float] = {}
        """Of the epoch that is on, from the checkpoint that it goes on from."""
        self._told: dict[str, Any] = {}

    def loader(self) -> Loader:
        """For `trainer.fit`, or what `train_dataloader` returns."""
        return self._loader

    def close(self) -> None:
        """The model is as it was but for its weights; a training that was broken off leaves it frozen until then."""
        if self.freezer is None or not self._open:
            return
        self._last, self._open, self.broken_off = {**self.state_dict(), "thawed": True}, False, False
        release(self.freezer.model, self)
        reduced_by(self.freezer.model, None)
        self.freezer.close()

    # The order of hooks: setup, load_state_dict, optimizers, on_fit_start, the optimizers' states, on_train_start,
    # epochs.

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._trainer = trainer

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.close()
        model = _model_of(pl_module, self._attribute)
        precision = self._check(trainer, pl_module, model)
        wrapper = trainer.strategy.model
        with hold(model, self):
            reduced_by(model, wrapper if isinstance(wrapper, nn.parallel.DistributedDataParallel) else None)
            told = {"epochs": self._epochs_in(trainer), **self._keywords}
            self.freezer = Freezer(
                model,
                self._dataset,
                optimizer=Optimizers.of(trainer.optimizers),
                device=trainer.strategy.root_device,
                precision=precision,
                route=True,
                **told,
            )
        self._trainer, self._open, self._resumed, self._steps = trainer, True, False, None
        self._told = dict(trainer.callback_metrics)
        # A state from behind a training has its optimizers whole: they load theirs first.
        if self._coming is not None and not self._coming["thawed"]:
            self._take_over()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        loaders = trainer.train_dataloader
        if loaders is not self._loader:
            raise ArgumentError(
                f"the Trainer trains on {type(loaders).__name__}: give it the callback's own loader, alone: "
                "trainer.fit(module, freeze.loader())"
            )
        loader = self._running().loader
        if self._coming is not None:
            self._take_over()
        if loader.state_dict()["epoch"] < trainer.current_epoch:
            loader.set_epoch(trainer.current_epoch)
        step = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if not self._resumed and trainer.fit_loop.restarting and step < len(loader):
            # A checkpoint from before there was a Freeze.
            loader.load_state_dict({"epoch": trainer.current_epoch, "step": step})
        if self._steps is not None:
            progress = trainer.fit_loop.epoch_loop.batch_progress
            if trainer.fit_loop.epoch_loop.restarted_on_train_batch_end and progress.is_last_batch:
                # Lightning tells by its number that the next batch begins an epoch.
                progress.current.completed = max(progress.current.completed, len(self._loader))
            self._measure(trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self._steps not in (None, len(self._loader)):
            self._measure(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._running().end_epoch({**self._metrics, **self._fresh_metrics()})
        self._metrics, self._told = {}, dict(trainer.callback_metrics)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.broken_off = self._open

    def state_dict(self) -> dict[str, Any]:
        """All that was decided, as a Freezer's, and what the epoch's metrics are by now."""
        if self.freezer is None or not self._open:
            return dict(self._last)
        metrics = {**self._metrics, **{name: float(value) for name, value in self._fresh_metrics().items()}}
        made = self._trainer.global_step
        return {"freezer": self.freezer.state_dict(), "metrics": metrics, "steps": made, "thawed": False}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._coming = state_dict or None

    def _running(self) -> Freezer:
        if self.freezer is None or not self._open:
            raise ArgumentError(
                "a Freeze's loader gives batches while trainer.fit(...) runs with it among the callbacks"
            )
        return self.freezer

    def _epochs_in(self, trainer: Any) -> int | None:
        """How many there will be, as far as the Trainer knows."""
        ends = [trainer.max_epochs] if trainer.max_epochs is not None and trainer.max_epochs > 0 else []
        if trainer.max_steps > 0:
            coming = self._coming or {"freezer": None}
            told = self._user_loader(), trainer.world_size, trainer.accumulate_grad_batches
            ends.append(Progress.of(coming["freezer"], *told).epochs(trainer.max_steps, coming.get("steps", 0)))
        return min(ends, default=None)

    def _user_loader(self) -> UserLoader:
        told = self._keywords
        size, collate, workers = told.get("batch_size"), told.get("collate_fn"), int(told.get("workers", 0))
        return UserLoader.of(self._dataset, size, collate, workers)

    def _take_over(self) -> None:
        """What a checkpoint's training had decided."""
        assert self._coming is not None
        freezer = self._running()
        freezer.load_state_dict(self._coming["freezer"])
        steps = freezer.batches_per_epoch
        self._steps = None if steps == steps_of(self._user_loader(), self._trainer.world_size) else steps
        self._metrics, self._coming = dict(self._coming["metrics"]), None
        self._resumed = True

    def _measure(self, trainer: Any) -> None:
        """Let the Trainer ask anew how many batches there are: it does so once, and limits all epochs to that."""
        trainer.fit_loop._combined_loader = None
        trainer.fit_loop.setup_data()
        self._steps = len(self._loader)

    def _fresh_metrics(self) -> dict[str, Any]:
        """Those that were logged since the last epoch ended; the Trainer keeps the others for ever."""
        return {n: value for n, value in self._trainer.callback_metrics.items() if self._told.get(n) is not value}

    def _check(self, trainer: Any, pl_module: Any, model: nn.Module) -> str | None:
        """The Freezer's word for the Trainer's precision.

        Raises:
            ArgumentError: something is at work that would meet features where it wants images, or a frozen front.
        """
        strategy = type(trainer.strategy).__name__
        if strategy not in STRATEGIES:
            raise ArgumentError(
                f"{strategy} is not supported: each process needs the model whole on one device, since what is behind "
                'a cut is called alone; Trainer(strategy="auto"), or "ddp"'
            )
        if getattr(trainer.strategy, "_model_averager", None) is not None:
            raise ArgumentError(
                "DDPStrategy(model_averaging_period=...) lets the processes' weights differ for a while, and a front "
                "is frozen with the same weights in all: leave it out"
            )
        precision = str(trainer.precision)
        if precision not in PRECISIONS:
            raise ArgumentError(
                f"precision={precision!r} is not supported, since the model then wants other inputs than the data set "
                f"gives: one of {', '.join(PRECISIONS)}"
            )
        if trainer.overfit_batches:
            raise ArgumentError("overfit_batches wants a DataLoader to change: hand a torch Subset to Freeze instead")
        for holder in filter(None, (pl_module, trainer.datamodule)):
            for hook in BATCH_HOOKS:
                if getattr(type(holder), hook).__module__.split(".")[0] not in ("lightning", "pytorch_lightning"):
                    raise ArgumentError(
                        f"{type(holder).__name__}.{hook} would get stored features in the place of images: what it "
                        "does belongs into the data set's transform"
                    )
        norms = [name for name, module in model.named_modules() if hasattr(module, "running_mean")]
        averaging = any(type(callback).__name__ == "StochasticWeightAveraging" for callback in trainer.callbacks)
        if norms and averaging:
            raise ArgumentError(
                f"StochasticWeightAveraging resets the statistics of all batch norms, {norms[0]!r} say, and measures "
                "them in an epoch of its own, and those of a frozen front stand still. WeightAveraging has none"
            )
        return PRECISIONS[precision]


class Loader:
    """A Freezer's epochs, for a Trainer; it may be asked for its length before there is a training.

    Args:
        freeze: whose it is.
    """

    def __init__(self, freeze: Freeze) -> None:
        self._freeze = freeze

    def __len__(self) -> int:
        """Batches of the epoch that the Trainer is in."""
        freeze = self._freeze
        if not freeze._open:
            return steps_of(freeze._user_loader(), 1 if freeze._trainer is None else freeze._trainer.world_size)
        freezer = freeze._running()
        ahead = freezer.loader.state_dict()["epoch"] > freeze._trainer.current_epoch
        return freezer.batches_per_epoch if ahead else len(freezer.loader)

    def __iter__(self) -> Iterator[Any]:
        # A Trainer asks for iterators before the training begins; the first batch comes when it has.
        yield from self._freeze._running().loader

    def state_dict(self) -> dict[str, Any]:
        """How far the epoch is; so that a Trainer knows that it is kept."""
        freezer = self._freeze.freezer
        return {} if freezer is None else freezer.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The callback's own state says more, and is there by then."""


def _model_of(module: nn.Module, attribute: str) -> nn.Module:
    try:
        found = attrgetter(attribute)(module)
    except AttributeError:
        found = None
    if not isinstance(found, nn.Module):
        there = ", ".join(repr(name) for name, _ in module.named_children()) or "no modules"
        raise ArgumentError(
            f"{type(module).__name__} has no model in its attribute {attribute!r}: Freeze(..., attribute=...) takes "
            f"one of {there}"
        )
    return found
