"""Lightning's checkpoints gone on with in batches of another size, as more or fewer processes have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from hoarfrost.samples import batch_bounds
from shared.distributed_runs import Numbered
from shared.door_runs import assert_each_sample_once
from shared.nets import resnet
from shared.runs import sgd

L = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402

from hoarfrost.integrations.lightning import Freeze  # noqa: E402

SAMPLES, EPOCHS = 59, 3

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:lightning", "ignore:.*:FutureWarning")


class Module(L.LightningModule):  # type: ignore[name-defined,misc]
    """Notes what it is shown.

    Args:
        estimating: whether it asks for the number of steps when it makes its optimizer, before anything is loaded.
    """

    def __init__(self, estimating: bool) -> None:
        super().__init__()
        self.model, self._estimating = resnet(), estimating
        self.shown: list[tuple[int, list[int]]] = []
        self.numbers: list[int] = []
        self.validated = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, numbers = batch
        self.shown.append((self.current_epoch, numbers.tolist()))
        self.numbers.append(batch_idx)
        return F.cross_entropy(self.model(inputs), numbers % 10)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated += 1

    def configure_optimizers(self) -> Any:
        steps = self.trainer.estimated_stepping_batches if self._estimating else 100
        optimizer = sgd(self.model)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, int(steps), 0.5)]


def fitted(
    size: int, saving: Any = None, resume: Path | None = None, estimating: bool = True, **options: Any
) -> tuple[Any, Any, Freeze]:
    module = Module(estimating)
    data = DataLoader(Numbered(SAMPLES), size, shuffle=True)
    freeze = Freeze(data, policy={1: "layer1"}, mode="cache", ladder="exact", views=1, verbose=False)
    told = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    counted = {"max_epochs": EPOCHS, "num_sanity_val_steps": 0, "enable_checkpointing": saving is not None}
    trainer = L.Trainer(callbacks=[freeze, *([saving] if saving else [])], **{**told, **counted, **options})
    validation = DataLoader(Numbered(4), 4)
    trainer.fit(module, freeze.loader(), validation, ckpt_path=None if resume is None else str(resume))
    return module, trainer, freeze


SAVING: dict[str, dict[str, Any]] = {
    "behind batches": {"every_n_train_steps": 2},
    "behind validation": {"save_on_train_epoch_end": False},
    "behind epochs": {"save_on_train_epoch_end": True},
}


@pytest.mark.parametrize(
    ("size", "other", "saving", "estimating"),
    [
        pytest.param(16, 8, "behind batches", True, marks=pytest.mark.slow),
        pytest.param(16, 8, "behind batches", False, marks=pytest.mark.long),
        pytest.param(8, 16, "behind batches", True, marks=pytest.mark.long),
        pytest.param(8, 16, "behind batches", False, marks=pytest.mark.long),
        pytest.param(16, 8, "behind validation", True, marks=pytest.mark.long),
        pytest.param(16, 8, "behind validation", False, marks=pytest.mark.slow),
        pytest.param(8, 16, "behind validation", True, marks=pytest.mark.long),
        pytest.param(16, 8, "behind epochs", True, marks=pytest.mark.long),
    ],
)
def test_each_sample_comes_once(size: int, other: int, saving: str, estimating: bool, tmp_path: Path) -> None:
    """Wherever it was saved: within an epoch, behind its last batch, behind its validation. Epochs that follow have all
    their batches, numbered from 0, and are validated."""
    steps, whole = len(batch_bounds(SAMPLES, size)), len(batch_bounds(SAMPLES, other))
    first, _, _ = fitted(size, ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, **SAVING[saving]))
    for step in (steps, steps + 2) if saving == "behind batches" else (steps,):
        again, trainer, freeze = fitted(other, resume=tmp_path / f"step={step}.ckpt", estimating=estimating)
        assert_each_sample_once([*first.shown[:step], *again.shown], EPOCHS, SAMPLES)
        assert again.numbers[-whole:] == list(range(whole))
        assert again.numbers[0] == step % steps
        assert trainer.global_step == step + len(again.numbers)
        assert again.validated == EPOCHS - 1
        assert freeze.freezer is not None
        assert [record["epoch"] for record in freeze.freezer.history if record["event"] == "epoch"] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "other", "steps", "epochs"), [pytest.param(8, 16, 20, 5, marks=pytest.mark.long), (16, 8, 12, 2)]
)
def test_so_many_steps_are_made_and_the_policy_knows_the_epochs(
    size: int, other: int, steps: int, epochs: int, tmp_path: Path
) -> None:
    """Of batches twice as large, or half as large, from the second one on."""
    limit = {"max_epochs": -1, "max_steps": steps}
    fitted(size, ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=2), **limit)
    again, trainer, freeze = fitted(other, resume=tmp_path / "step=2.ckpt", **limit)
    assert trainer.global_step == steps
    assert freeze.freezer is not None
    assert freeze.freezer.epochs == epochs == again.shown[-1][0] + 1


@pytest.mark.long
@pytest.mark.parametrize("accumulated", [2, 3])
def test_so_many_batches_are_accumulated_as_now(accumulated: int, tmp_path: Path) -> None:
    """Eight batches in two updates before, four in two then."""
    saving = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
    first, _, _ = fitted(8, saving, accumulate_grad_batches=4)
    for step in (1, 2):
        resume = tmp_path / f"step={step}.ckpt"
        again, trainer, _ = fitted(16, resume=resume, accumulate_grad_batches=accumulated)
        assert_each_sample_once([*first.shown[: 4 * step], *again.shown], EPOCHS, SAMPLES)
        assert trainer.global_step == 2 * EPOCHS
