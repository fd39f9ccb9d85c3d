"""A run and the files it leaves: finished, interrupted, broken off between two files, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hoarfrost.data import embedded
from hoarfrost.errors import ArgumentError, CheckpointError, RunBusyError
from hoarfrost.running import Journal, RunConfig, RunFiles, make_optimizer, run, setup, train


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes, sorted by class as in any folder."""
    data, folder = embedded(), tmp_path_factory.mktemp("pictures")
    for number in range(150):
        image, target = data[number]
        place = folder / ("train" if number < 120 else "val") / str(target % 3)
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number}.png")
    return folder


@pytest.fixture
def config(pictures: Path, tmp_path: Path) -> RunConfig:
    return RunConfig.told(
        data=str(pictures),
        epochs=2,
        batch_size=32,
        lr=0.05,
        freeze={1: "layer1"},
        mode="cache",
        ladder=8,
        out=str(tmp_path / "out"),
    )


def records(config: RunConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in RunFiles(Path(str(config.out))).metrics.read_text().splitlines()]


def interrupting(at: int) -> Any:
    """An `on_step` that sends Ctrl-C at that step of the run."""
    steps = iter(range(1, 1000))

    def on_step(done: int, of: int) -> None:
        if next(steps) == at:
            os.kill(os.getpid(), signal.SIGINT)

    return on_step


def test_a_run_leaves_its_files(config: RunConfig) -> None:
    shown: list[dict[str, Any]] = []
    outcome = train(config, listener=shown.append)
    assert (outcome.finished, outcome.before) == (True, False)
    assert all(path.stat().st_size for path in (outcome.files.model, outcome.files.report, outcome.files.checkpoint))
    assert [record["event"] for record in shown] == ["start", "epoch", "freeze", "epoch", "end"]
    assert records(config) == json.loads(json.dumps(shown, default=float))
    assert RunConfig.told(outcome.files.config) == config


@pytest.mark.parametrize("evaluation", ["exact", pytest.param(8, marks=pytest.mark.slow)])
def test_epochs_can_be_evaluated_on_stored_features(
    config: RunConfig, evaluation: str | int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config.but(epochs=3)
    shown: list[tuple[int, ...]] = []
    given = run.scores

    def watched(model: Any, answer: Any, batches: Any) -> dict[str, float]:
        def seen(inputs: torch.Tensor) -> torch.Tensor:
            shown.append(tuple(inputs.shape[1:]))
            return answer(inputs)  # type: ignore[no-any-return]

        return given(model, seen, batches)

    monkeypatch.setattr(run, "scores", watched)
    train(config)
    assert shown == []
    train(config.but(evaluation=evaluation, out=str(tmp_path / "other")))
    assert len(set(shown)) == 2, "images first, features behind the freeze"
    wanted, got = (
        [(record["test_loss"], record["test_accuracy"]) for record in records(one) if "test_loss" in record]
        for one in (config, config.but(out=str(tmp_path / "other")))
    )
    assert len(wanted) == 4
    if evaluation == "exact":
        assert got == wanted
    else:
        assert got == [pytest.approx(pair, rel=0.02) for pair in wanted]


def test_some_of_the_images_hold_each_class_with_its_share(config: RunConfig, pictures: Path) -> None:
    few = config.but(samples=30, batch_size=15, epochs=1, freeze={0: "layer1"})
    train(few)
    assert records(few)[0]["samples"] == 30
    data = setup.open_data(str(pictures))
    subset: Any = setup.few(data, 30)
    whole = Counter(data.train.targets)  # type: ignore[attr-defined]
    taken = Counter(target for _, target in subset)
    assert all(abs(taken[target] - count / 4) < 1 for target, count in whole.items())


def test_a_finished_run_is_left_as_it_is(config: RunConfig) -> None:
    files = train(config).files
    before = {path: path.read_bytes() for path in files.folder.iterdir() if path.is_file()}
    outcome = train(config, resume=True, on_step=lambda done, of: pytest.fail("it trained"))
    assert (outcome.finished, outcome.before) == (True, True)
    assert {path: path.read_bytes() for path in files.folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(("settle", "at"), [("statistics", 6), ("average", 2)], ids=["on the cache", "amid an average"])
def test_an_interrupted_run_goes_on_to_the_same_weights(
    config: RunConfig, settle: str, at: int, tmp_path: Path
) -> None:
    config = config.but(settle=settle)
    whole = train(config.but(out=str(tmp_path / "whole"))).files
    heard: list[bool] = []
    outcome = train(config, on_step=interrupting(at=at), on_stop=lambda: heard.append(True))
    assert not outcome.finished
    assert heard == [True]
    assert outcome.files.report.exists()
    assert not outcome.files.model.exists()
    assert train(config, resume=True).finished
    one, other = load_file(whole.model), load_file(outcome.files.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [r["epoch"] for r in records(config) if r["event"] == "epoch"] == [0, 1]


def test_a_run_that_broke_off_before_its_model_was_written(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, model: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(run, "save_model", full)
        with pytest.raises(OSError, match="No space"):
            train(config)
    outcome = train(config, resume=True, on_step=lambda done, of: pytest.fail("it trained"))
    assert (outcome.finished, outcome.before) == (True, False)
    assert outcome.files.model.exists()


def test_a_truncated_checkpoint_is_told(config: RunConfig) -> None:
    files = train(config, on_step=interrupting(at=2)).files
    files.checkpoint.write_bytes(files.checkpoint.read_bytes()[:-100])
    written = files.metrics.read_text()
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors is no checkpoint of Hoarfrost, or it is damag"):
        train(config, resume=True)
    assert files.metrics.read_text() == written


@pytest.mark.parametrize("there", [False, True], ids=["a new folder", "an empty one"])
def test_what_is_refused_before_it_begins_leaves_nothing(config: RunConfig, tmp_path: Path, there: bool) -> None:
    out = tmp_path / "refused"
    if there:
        out.mkdir()
    with pytest.raises(ArgumentError, match=r"caches cannot be kept at 'nowhere://bucket'"):
        train(config.but(out=str(out), cache_dir="nowhere://bucket"))
    assert out.exists() == there
    assert not there or not [*out.iterdir()]


def test_nothing_to_go_on_from(config: RunConfig) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        train(config, resume=True)


def test_a_run_does_not_write_over_another(config: RunConfig) -> None:
    train(config, on_step=interrupting(at=1))
    with pytest.raises(ArgumentError, match=r"holds a run already \(checkpoint\.safetensors\): go on with --resume"):
        train(config)


def test_the_journal_goes_on_behind_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "start"}\n{"event": "ep')
    journal = Journal(path, goes_on=True)
    journal.write({"event": "end"})
    journal.close()
    assert path.read_text() == '{"event": "start"}\n{"event": "end"}\n'


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_is_the_one_asked_for(name: str, kind: type[torch.optim.Optimizer]) -> None:
    made = make_optimizer(RunConfig.told(optimizer=name, lr=0.25, weight_decay=0.125), torch.nn.Linear(2, 2))
    assert type(made) is kind
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.25, 0.125)


BESIDE = """
import sys
from hoarfrost.errors import RunBusyError
from hoarfrost.running import RunConfig, train
resume = sys.argv[3] == "True"
told = {"data": sys.argv[1], "epochs": 2, "out": sys.argv[2]}
try:
    train(RunConfig.told(resume=resume, **told), resume=resume)
except RunBusyError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "resume", [pytest.param(False, marks=pytest.mark.slow), True], ids=["the same out twice", "two resumes"]
)
def test_one_process_at_a_time_trains_in_a_folder(config: RunConfig, tmp_path: Path, resume: bool) -> None:
    said: list[str] = []

    def start_another(done: int, of: int) -> None:
        if not said:
            told = [str(config.data), str(config.out), str(resume)]
            ran = subprocess.run([sys.executable, "-c", BESIDE, *told], capture_output=True, text=True, check=True)
            said.append(ran.stdout)

    assert train(config, on_step=start_another).finished
    assert said == [f"another process is training in {config.out}: wait for it, or name another --out\n"]
    assert train(config.but(epochs=2), resume=True).before
    with RunFiles(tmp_path / "other").held(), pytest.raises(RunBusyError), RunFiles(tmp_path / "other").held():
        pass
