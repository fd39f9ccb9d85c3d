"""The command's own loop in two processes, by gloo: one run, with its records, its checkpoint and its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from hoarfrost import Freezer
from hoarfrost.checkpoints import load_tree
from hoarfrost.errors import HoarfrostError
from hoarfrost.freezing import undistributed
from hoarfrost.running import Processes, RunConfig, RunFiles, Setup, train
from shared.distributed_runs import together
from shared.runs import assert_same_tensors

pytestmark = pytest.mark.slow

Runs = list[dict[str, Any]]
SAMPLES, EPOCHS, BATCH = 51, 3, 8
STEPS = 3
"""A rank's batches in an epoch, of 25 or 26 samples."""


def config(folder: Path, **told: Any) -> RunConfig:
    """A run that freezes before its second epoch."""
    usual: dict[str, Any] = {"ladder": "exact", "views": 1, "mode": "cache", "freeze": {1: "layer1"}}
    usual |= {"data": str(folder.parent / "pictures"), "epochs": EPOCHS, "batch_size": BATCH, "device": "cpu"}
    return RunConfig.told(**usual | told, out=str(folder))


def draw(folder: Path) -> None:
    """Images of as many classes, so that targets say which they are."""
    values = torch.rand(2, SAMPLES, 16, 16, generator=torch.Generator().manual_seed(0))
    for part, images in zip(("train", "val"), values, strict=True):
        for number, image in enumerate(images):
            place = folder / part / f"{number:02}"
            place.mkdir(parents=True)
            Image.fromarray((image * 255).byte().numpy()).save(place / "0.png")


@contextmanager
def shown(to: list[list[int]], models: list[nn.Module]) -> Iterator[None]:
    """The targets of each epoch's batches, and the model that trains."""
    batches = Freezer.batches

    def watched(self: Freezer, epoch: int, start: int = 0) -> Iterator[Any]:
        to.append([])
        models.append(undistributed(self.model))
        for inputs, targets in batches(self, epoch, start):
            to[-1] += targets.tolist()
            yield inputs, targets

    Freezer.batches = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        Freezer.batches = batches  # type: ignore[method-assign]


def at_step(number: int, work: Callable[[], None]) -> Callable[[int, int], None]:
    """An `on_step` that does something behind that step of the run."""
    steps = iter(range(1, 1000))

    def on_step(done: int, of: int) -> None:
        if next(steps) == number:
            work()

    return on_step


def told(work: Callable[[], object]) -> str:
    """The error that it ends with."""
    try:
        work()
    except HoarfrostError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def nothing() -> None:
    pass


def runs(rank: int, where: Path) -> dict[str, Any]:
    """What one of two ranks goes through."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found: dict[str, Any] = {"shown": []}
    models: list[nn.Module] = []
    with shown(found["shown"], models):
        found["whole"] = train(config(where / "whole")).finished
    found["model"] = {name: value.clone() for name, value in models[-1].state_dict().items()}
    found["stored test"] = train(
        config(where / "stored", evaluation="exact", policy="none", freeze={0: "layer1"})
    ).finished

    only_one = interrupted if rank == 1 else nothing
    found["begun"] = []
    with shown(found["begun"], []):
        stopped = train(config(where / "stopped"), on_step=at_step(STEPS + 2, only_one))
    found["stopped"] = stopped.finished, RunFiles(where / "stopped").model.exists()
    if rank == 0:
        shutil.copytree(where / "stopped", where / "alone")
    found["gone on"] = train(config(where / "stopped"), resume=True).finished

    found["twice"] = told(lambda: train(config(where / "whole")))
    found["before"] = train(config(where / "whole"), resume=True).before
    found["device"] = told(lambda: Processes.of(config(where / "whole", device="cuda:1")))
    setup = Setup.of(config(where / "whole"))
    setup.model.load_state_dict(load_file(where / "whole" / "model.safetensors"))
    found["examined"] = setup.examination(setup.train_transform, Processes.of(setup.config).ranks)(setup.model)
    return found


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("command")
    draw(where / "pictures")
    return where


@pytest.fixture(scope="module")
def ranks(where: Path) -> Runs:
    return together(2, runs, where / "two", where)


AMID = """
import os, signal, sys
from hoarfrost import Freezer
from hoarfrost.cli import app
from hoarfrost.errors import DatasetError
batches = Freezer.batches
rank, fault = sys.argv.pop(1), sys.argv.pop(1)
def faulty(self, epoch, start=0):
    for step, batch in enumerate(batches(self, epoch, start)):
        if (rank, epoch, step) == ("1", 1, 2):
            if fault == "unreadable":
                raise DatasetError("sample 3 cannot be read")
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
if fault:
    Freezer.batches = faulty
app()
"""


def commands(fault: str, *words: str) -> list[tuple[int, str]]:
    """The exit code of each of two processes of the command, and what it says to its end.

    Args:
        fault: what befalls rank 1 amid the second epoch.
    """
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", AMID, str(rank), fault, "train", *words],
            env={**os.environ, **together, "RANK": str(rank), "LOCAL_RANK": str(rank), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


@pytest.fixture(scope="module")
def failed(where: Path) -> list[tuple[int, str]]:
    config(where / "failing").write(where / "failing.yaml")
    return commands("unreadable", "--config", str(where / "failing.yaml"), "--out", str(where / "failing"))


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def records(where: Path, run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in RunFiles(where / run).metrics.read_text().splitlines()]


def weights(where: Path, run: str) -> dict[str, torch.Tensor]:
    return load_file(RunFiles(where / run).model)


def test_each_sample_is_shown_once_an_epoch(ranks: Runs) -> None:
    assert all(rank["whole"] and len(rank["shown"]) == EPOCHS for rank in ranks)
    for one, other in zip(*(rank["shown"] for rank in ranks), strict=True):
        assert sorted(one + other) == list(range(SAMPLES))


def test_the_records_are_those_of_one_run(ranks: Runs, where: Path) -> None:
    found = records(where, "whole")
    assert [record["event"] for record in found] == ["start", "epoch", "freeze", "epoch", "epoch", "end"]
    for record in found:
        if record["event"] == "epoch":
            assert record["train_flops"] % SAMPLES == 0
            assert record["accuracy"] * SAMPLES == pytest.approx(round(record["accuracy"] * SAMPLES))
    assert RunConfig.told(where / "whole" / "config.yaml") == config(where / "whole")
    names = {path.name for path in (where / "whole").iterdir()}
    assert names >= {"model.safetensors", "report.html", "checkpoint.safetensors", "cache"}


def test_both_end_with_the_same_model_which_is_the_one_that_is_left(ranks: Runs, where: Path) -> None:
    for rank in ranks:
        assert_same_tensors(rank["model"], weights(where, "whole"))


def test_the_test_set_is_counted_once(ranks: Runs, where: Path) -> None:
    """One process has the figures of two, to the bit."""
    setup = Setup.of(config(where / "whole"))
    setup.model.load_state_dict(weights(where, "whole"))
    end = records(where, "whole")[-1]
    plain = setup.examination(setup.test_transform)(setup.model)
    assert (end["test_loss"], end["test_accuracy"]) == (plain["loss"], plain["accuracy"])
    augmented = setup.examination(setup.train_transform)(setup.model)
    assert ranks[0]["examined"] == ranks[1]["examined"] == augmented
    assert end["augmented_accuracy"] == augmented["accuracy"]


def test_epochs_can_be_evaluated_on_stored_features(ranks: Runs, where: Path) -> None:
    last, end = records(where, "stored")[-2:]
    assert (last["test_loss"], last["test_accuracy"]) == (end["test_loss"], end["test_accuracy"])


def test_both_stop_where_one_is_told_to_and_go_on_to_the_same_weights(ranks: Runs, where: Path) -> None:
    assert all(rank["stopped"] == (False, False) and rank["gone on"] for rank in ranks)
    assert_same_tensors(weights(where, "stopped"), weights(where, "whole"))
    assert [r["epoch"] for r in records(where, "stopped") if r["event"] == "epoch"] == list(range(EPOCHS))
    (resumed,) = (r for r in records(where, "stopped") if r["event"] == "resume")
    assert (resumed["epoch"], resumed["step"]) == (1, 2)


def test_one_process_goes_on_within_the_epoch_of_two(ranks: Runs, where: Path) -> None:
    """With what neither has shown; the rate runs to its end in what steps one process has."""
    rest: list[list[int]] = []
    with shown(rest, []):
        assert train(config(where / "alone"), resume=True).finished
    begun = [number for rank in ranks for number in rank["begun"][-1]]
    assert len(begun) == 2 * 2 * BATCH
    assert sorted(begun + rest[0]) == sorted(rest[1]) == list(range(SAMPLES))
    finished = load_tree(RunFiles(where / "alone").checkpoint)
    assert finished["schedule"]["last_epoch"] == EPOCHS * -(-SAMPLES // BATCH)
    amid, last = (r for r in records(where, "alone") if r["event"] == "epoch" and r["epoch"] > 0)
    assert amid["train_flops"] == last["train_flops"]  # of all samples of the epoch, whoever has shown them


@pytest.mark.long
def test_a_rank_that_fails_ends_both_with_a_sentence_each(failed: list[tuple[int, str]], where: Path) -> None:
    (code, said), (its_code, itself) = failed
    assert (code, its_code) == (2, 2)
    assert itself == "rank 1: DatasetError: sample 3 cannot be read\nto go on: " + how_to(where / "failing")
    error = said[said.index("RankError") :]
    assert "rank 1 failed: DatasetError: sample 3 cannot be read" in error
    assert error.endswith("to go on: " + how_to(where / "failing"))


@pytest.mark.long
def test_a_rank_that_is_killed_is_named_and_the_run_goes_on_to_the_same_weights(ranks: Runs, where: Path) -> None:
    file, out = str(where / "killed.yaml"), str(where / "killed")
    config(where / "killed").write(Path(file))
    began = time.monotonic()
    (code, said), (killed, _) = commands("killed", "--config", file, "--out", out)
    assert time.monotonic() - began < 60
    assert (code, killed) == (2, -signal.SIGKILL)
    assert "rank 1 gives no sign of life: it was killed" in said
    assert said.endswith("to go on: " + how_to(where / "killed"))
    assert [code for code, _ in commands("", "--out", out, "--resume")] == [0, 0]
    assert_same_tensors(weights(where, "killed"), weights(where, "whole"))


def how_to(folder: Path) -> str:
    return f"hoarfrost train --out {folder} --resume, in 2 processes\n"


@pytest.mark.long
def test_another_number_of_processes_goes_on_between_two_epochs(failed: list[tuple[int, str]], where: Path) -> None:
    """That of two which failed in their second epoch; the rate runs to its end in what steps one process has."""
    saved = load_tree(RunFiles(where / "failing").checkpoint)
    assert (saved["epoch"], saved["step"], len(saved["others"])) == (1, 0, 1)
    assert train(config(where / "failing"), resume=True).finished
    found = [r for r in records(where, "failing") if r["event"] == "epoch"]
    assert [r["epoch"] for r in found] == list(range(EPOCHS))
    finished = load_tree(RunFiles(where / "failing").checkpoint)
    alone = -(-SAMPLES // BATCH)
    assert finished["schedule"]["last_epoch"] == EPOCHS * alone
    assert finished["schedule"]["_last_lr"] == [pytest.approx(0.0, abs=1e-9)]


def test_one_says_that_the_folder_is_taken(ranks: Runs) -> None:
    assert ranks[0]["twice"].startswith("ArgumentError")
    assert "holds a run already" in ranks[0]["twice"]
    assert ranks[1]["twice"].startswith("RankError: the run's files: rank 0 failed: ArgumentError")
    assert all(rank["before"] for rank in ranks)


def test_one_device_for_two_is_refused(ranks: Runs) -> None:
    for rank in ranks:
        assert rank["device"].startswith("ArgumentError: device 'cuda:1' is one device, and 2 processes train")


@pytest.mark.long
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--nproc-per-node", "2", "--master-port"],
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port"],
    ],
    ids=["torchrun", "accelerate launch"],
)
def test_launchers_start_it_and_it_learns(launcher: list[str], tmp_path: Path) -> None:
    """A tenth of the answers would be right by chance."""
    told = "--data embedded --samples 600 --epochs 3 --batch-size 32 --freeze 1=layer1 --device cpu --tensorboard"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            *launcher,
            free_port(),
            "-m",
            "hoarfrost",
            "train",
            *told.split(),
            "--out",
            str(tmp_path / "run"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("files in") == done.stdout.count("test accuracy") == 1
    assert records(tmp_path, "run")[-1]["test_accuracy"] > 0.3
    assert list((tmp_path / "run" / "tensorboard").iterdir())
