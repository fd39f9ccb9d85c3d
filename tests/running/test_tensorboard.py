"""TensorBoard's curves: the records' numbers, each once, whatever befell the run."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from hoarfrost.data import embedded
from hoarfrost.errors import HoarfrostError
from hoarfrost.running import RunConfig, RunFiles, train


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """Five short epochs, the third and later ones behind a freeze."""
    data = embedded()
    for number in range(48):
        image, target = data[number]
        place = tmp_path / "pictures" / ("train" if number < 32 else "val") / str(target % 2)
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number}.png")
    return RunConfig.told(
        data=str(tmp_path / "pictures"),
        epochs=5,
        batch_size=16,
        freeze={2: "layer1"},
        mode="cache",
        ladder=8,
        views=1,
        tensorboard=True,
        out=str(tmp_path / "out"),
    )


def curves(config: RunConfig) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: (step, value) by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(RunFiles(Path(str(config.out))).curves))
    shown.Reload()
    return {name: [(one.step, one.value) for one in shown.Scalars(name)] for name in shown.Tags()["scalars"]}


def recorded(config: RunConfig, event: str, name: str) -> list[tuple[int, float]]:
    lines = RunFiles(Path(str(config.out))).metrics.read_text().splitlines()
    return [(r["epoch"], pytest.approx(r[name])) for r in map(json.loads, lines) if r["event"] == event]


def test_each_record_is_a_point_of_its_curves(config: RunConfig) -> None:
    pytest.importorskip("tensorboard")
    train(config)
    found = curves(config)
    for name in ("loss", "accuracy", "test_accuracy", "seconds", "depth", "cache_bytes"):
        assert found[f"epoch/{name}"] == recorded(config, "epoch", name)
    assert found["freeze/build_seconds"] == recorded(config, "freeze", "build_seconds")
    assert [step for step, _ in found["end/test_accuracy"]] == [5]


@pytest.mark.parametrize("at", [7, 6], ids=["within an epoch", "at the end of one"])
def test_a_run_that_goes_on_goes_on_in_the_same_curves(config: RunConfig, at: int) -> None:
    """It breaks off behind its freeze, twice; no point is lost or doubled."""
    pytest.importorskip("tensorboard")

    def broken(step: int) -> Any:
        steps = iter(range(1, 100))

        def on_step(done: int, of: int) -> None:
            if next(steps) == step:
                raise OSError("the power is gone")

        return on_step

    for step in (at, 3):
        with pytest.raises(OSError, match="the power is gone"):
            train(config, resume=step != at, on_step=broken(step))
    train(config, resume=True)
    found = curves(config)
    assert [step for step, _ in found["epoch/loss"]] == list(range(5))
    assert found["epoch/loss"] == recorded(config, "epoch", "loss")
    assert [step for step, _ in found["freeze/depth"]] == [2]
    assert [step for step, _ in found["end/test_accuracy"]] == [5]


def test_curves_asked_for_later_hold_what_was_before(config: RunConfig) -> None:
    pytest.importorskip("tensorboard")

    def broken(done: int, of: int) -> None:
        if Path(str(config.out), "cache").exists():
            raise OSError("the power is gone")

    with pytest.raises(OSError, match="the power is gone"):
        train(config.but(tensorboard=False), on_step=broken)
    assert not RunFiles(Path(str(config.out))).curves.exists()
    train(RunConfig.told(out=config.out, resume=True, tensorboard=True), resume=True)
    assert curves(config)["epoch/loss"] == recorded(config, "epoch", "loss")


def test_without_the_package_nothing_is_begun(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def lacking(name: str, *rest: Any) -> Any:
        if name == "torch.utils.tensorboard":
            raise ImportError("No module named 'tensorboard'")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(HoarfrostError, match=r"pip install 'hoarfrost\[tensorboard\]'"):
        train(config)
    assert not Path(str(config.out)).exists()
