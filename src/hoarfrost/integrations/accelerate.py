"""Accelerate: a loader that freezes, in the place of the one that a loop reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..checkpoints import load_tree, save_tree
from ..errors import ArgumentError, CheckpointError
from ..freezer import Freezer
from ..freezing import HasParamGroups
from ..report import scalars_of
from .doors import hold, needs, release
from .keywords import check_keywords
from .numbered_batches import NumberedBatches, only

with needs("accelerate"):
    from accelerate import Accelerator
    from accelerate.checkpointing import load_accelerator_state
    from accelerate.utils import broadcast_object_list

    from .gathering import gather_unequal
    from .last_batch import LastBatch
    from .processes import check_processes
    from .shared_loader import unshared

__all__ = ["FreezingLoader"]

TAKEN = {
    "device": "it is the Accelerator's",
    "precision": "say Accelerator(mixed_precision=...), and the prepared model brings its autocast along",
    "route": "the model is always routed here",
}
"""Keywords of a Freezer that have no place here, and why."""


class FreezingLoader(LastBatch, DataLoader[Any]):
    """Freezes front layers of a prepared model as they settle, and gives batches: of images first, of features later.

    ```python
    model, optimizer = accelerator.prepare(model, optimizer)
    loader = FreezingLoader(accelerator, model, optimizer, train_set, batch_size=128, epochs=30, cache_dir="cache")
    for epoch in range(30):
        for inputs, targets in loader:
            with accelerator.accumulate(model):
                accelerator.backward(criterion(model(inputs), targets)); optimizer.step(); optimizer.zero_grad()
        loader.freezer.end_epoch({"val_loss": evaluate(model)})    # or nothing: the next epoch ends this one
    ```

    The loop stays as it is: `model(x)` runs what still trains on what the loader gave, and on images all of it.
    `accelerator.save_state` and `load_state` hold all that was decided, in a file `hoarfrost.safetensors` beside the
    weights. Behind `load_state` the loader goes on where it was, so that `skip_first_batches` is not needed (with it
    nothing is read for what is skipped). `gather_for_metrics` and `accumulate` know the epoch's last batch.

    Several processes share each epoch's samples, none twice, so that some have one more in their last batch; all make
    the loader, and save and load, together.

    Args:
        model, optimizer: as `accelerator.prepare` gave them.
        dataset: as the Freezer's, a DataLoader too, prepared or not.
        log_records: whether the numbers of the freezer's records go to the Accelerator's trackers, as `freeze/...` and
            `epoch/...`.
        keywords: of `hoarfrost.Freezer`.

    Attributes:
        freezer: behind it; `close` gives the model back as it was.

    Raises:
        ArgumentError: the model is not prepared, is not whole in each process, or is fed by another door; a keyword is
            none of these.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: HasParamGroups | None,
        dataset: Dataset[Any] | DataLoader[Any],
        *,
        log_records: bool = False,
        **keywords: Any,
    ) -> None:
        check_keywords(keywords, TAKEN)
        if not isinstance(accelerator, Accelerator):
            raise ArgumentError(f"an accelerate.Accelerator is needed first, not {type(accelerator).__name__}")
        check_processes(accelerator)
        if not getattr(model, "_is_accelerate_prepared", False):
            raise ArgumentError("the model is not prepared: model, optimizer = accelerator.prepare(model, optimizer)")
        shared = accelerator.num_processes > 1
        # Else it would take the wrapper out of what is compiled around it, and leave it so.
        self._accelerator, self._model = accelerator, accelerator.unwrap_model(model, keep_torch_compile=not shared)
        with hold(self._model, self):
            self.freezer = Freezer(
                model if shared else self._model,  # a wrapper reduces the gradients
                unshared(dataset),
                optimizer=optimizer,
                device=accelerator.device,
                route=True,
                **keywords,
            )
        if log_records:
            self.freezer.listener = self._log
        self.gradient_state = accelerator.gradient_state
        self._resumed = False
        mine = sum(isinstance(getattr(hook, "__self__", None), type(self)) for hook in self._hooks())
        self._file = f"hoarfrost{mine or ''}.safetensors"
        self._handles = (
            accelerator.register_save_state_pre_hook(self._save),
            accelerator.register_load_state_pre_hook(self._load),
        )
        self._batches = NumberedBatches(len(self.freezer.loader), self.freezer)
        super().__init__(self._batches, collate_fn=only)
        gather_unequal(accelerator)
        self._is_accelerate_prepared = True

    def _hooks(self) -> list[Any]:
        return list(self._accelerator._save_model_state_pre_hook.values())

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """An epoch's batches. None is fetched ahead: what is saved, and what a policy is asked, is of steps done."""
        start = 0
        if self._resumed:
            start, self._resumed = self.freezer.loader.state_dict()["step"], False
            # Accelerate keeps it with each process's random state, which another process has none of.
            self._accelerator.step = broadcast_object_list([self._accelerator.step])[0]
        yield from self.told(self._from(start), start, len(self))

    def _from(self, start: int) -> Iterator[Any]:
        for number in range(start, len(self)):
            try:
                batch = self._batches[number]
            except StopIteration:  # samples that cannot be read left fewer
                return
            yield batch

    def close(self) -> None:
        """The model is its own again, as by `Freezer.close`; what is saved from now on holds nothing of it."""
        for handle in self._handles:
            handle.remove()
        self.freezer.close()
        release(self._model, self)

    def _log(self, record: Mapping[str, Any]) -> None:
        self._accelerator.log(scalars_of(record), step=record.get("epoch"))

    def _save(self, models: list[nn.Module], weights: list[Any], output_dir: str) -> None:
        project = self._accelerator.project_configuration
        if self._accelerator.is_local_main_process if project.save_on_each_node else self._accelerator.is_main_process:
            save_tree(Path(output_dir) / self._file, self.freezer.state_dict())

    def _load(self, models: list[nn.Module], input_dir: str) -> None:
        """The order is weights, freezer, optimizer; Accelerate comes behind this, and loads the weights once more."""
        path = Path(input_dir) / self._file
        if not path.exists():
            raise CheckpointError(
                f"{input_dir} holds no {self._file}: it was saved without Hoarfrost. Load it before the FreezingLoader "
                "is made, and begin a training there"
            )
        saved = load_tree(path)
        load_accelerator_state(input_dir, models, [], [], [], self._accelerator.process_index, map_location="cpu")
        self.freezer.load_state_dict(saved)
        self._resumed = True
        self._batches.restart()
