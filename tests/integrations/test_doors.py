"""What all doors refuse: to be imported without their framework, and to feed a model that another one feeds."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from hoarfrost.errors import ArgumentError, HoarfrostError
from hoarfrost.integrations.doors import hold, release
from shared.images import PLAIN, images
from shared.nets import resnet
from shared.runs import sgd


class Door:
    """One that has come first."""


@pytest.mark.parametrize(
    ("extra", "missing"),
    [
        ("accelerate", ["accelerate"]),
        ("transformers", ["transformers"]),
        ("lightning", ["lightning.pytorch", "pytorch_lightning"]),
        ("timm", ["timm.task"]),
    ],
)
def test_a_framework_that_is_not_installed_names_its_extra(
    extra: str, missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"hoarfrost.integrations.{extra}", raising=False)
    with pytest.raises(
        HoarfrostError, match=rf"integrations\.{extra} needs a package .*pip install 'hoarfrost\[{extra}\]'"
    ):
        importlib.import_module(f"hoarfrost.integrations.{extra}")


def accelerate_on(model: Any, _: Path, policy: Any = "none") -> None:
    accelerate = pytest.importorskip("accelerate")
    from hoarfrost.integrations.accelerate import FreezingLoader

    try:
        accelerator = accelerate.Accelerator(cpu=True)
        prepared, optimizer = accelerator.prepare(model, sgd(model))
        FreezingLoader(accelerator, prepared, optimizer, images(16, PLAIN), batch_size=8, policy=policy)
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def transformers_on(model: Any, out: Path, policy: Any = "none") -> None:
    transformers = pytest.importorskip("transformers")
    from hoarfrost.integrations.transformers import FreezingTrainer
    from shared.small_transformers import Images

    told: dict[str, Any] = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "remove_unused_columns": False}
    args = transformers.TrainingArguments(str(out), **told)
    FreezingTrainer(model, args, train_dataset=Images(16, 4), freezing={"policy": policy, "verbose": False}).train()


def lightning_on(model: Any, _: Path, policy: Any = "none") -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    from hoarfrost.integrations.lightning import Freeze

    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, batch_idx: int) -> None:
            raise AssertionError("it trains")

        def configure_optimizers(self) -> Any:
            return sgd(self.model)

    freeze = Freeze(images(16, PLAIN), batch_size=8, policy=policy, verbose=False)
    told = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    lightning.Trainer(max_epochs=1, callbacks=[freeze], **told).fit(Module(), freeze.loader())


@pytest.mark.filterwarnings("ignore:.*:UserWarning:lightning", "ignore:.*:FutureWarning")
@pytest.mark.parametrize("fed", [accelerate_on, transformers_on, lightning_on])
def test_a_model_that_another_door_feeds_is_refused(fed: Any, tmp_path: Path) -> None:
    model, first = resnet(), Door()
    with (
        hold(model, first),
        pytest.raises(ArgumentError, match=r"test_doors\.Door feeds this \w+ already, and .*: close one of them first"),
    ):
        fed(model, tmp_path)
    release(model, first)


@pytest.mark.filterwarnings("ignore:.*:UserWarning:lightning", "ignore:.*:FutureWarning")
@pytest.mark.parametrize("fed", [accelerate_on, transformers_on, lightning_on])
def test_a_door_that_was_refused_feeds_nothing(fed: Any, tmp_path: Path) -> None:
    """Even while its traceback holds it, as a notebook does."""
    model = resnet()
    with pytest.raises(HoarfrostError) as refused:
        fed(model, tmp_path, policy={1: "nothing"})
    with hold(model, Door()):
        assert refused.tb is not None
