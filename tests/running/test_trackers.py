"""A freezer's records in a tracker of Accelerate's, as docs/guide/frameworks.md has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoarfrost import Freezer
from hoarfrost.report import scalars_of
from hoarfrost.running import fit
from shared.images import PLAIN, images
from shared.nets import resnet
from shared.runs import sgd


def test_a_listener_hands_numbers_to_a_tracker(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accelerator = accelerate.Accelerator(cpu=True, log_with="tensorboard", project_dir=tmp_path)
    accelerator.init_trackers("freezing")
    model = resnet()
    optimizer = sgd(model)
    told = {"epochs": 2, "policy": {1: "layer1"}, "cache_dir": tmp_path / "cache", "verbose": False}
    with Freezer(model, images(50, PLAIN), batch_size=25, optimizer=optimizer, **told) as freezer:
        freezer.listener = lambda record: accelerator.log(scalars_of(record), step=record.get("epoch"))
        fit(freezer, optimizer, epochs=2)
        saved = [record["saved_seconds"] for record in freezer.history if record["event"] == "epoch"]
    accelerator.end_training()
    shown = accumulator.EventAccumulator(str(tmp_path / "freezing"))
    shown.Reload()
    assert [(one.step, one.value) for one in shown.Scalars("epoch/saved_seconds")] == [
        (epoch, pytest.approx(seconds)) for epoch, seconds in enumerate(saved)
    ]
    assert [one.step for one in shown.Scalars("freeze/depth")] == [1]
