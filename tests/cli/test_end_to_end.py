"""The command as a user runs it: what it leaves, what it says, and how it goes on after an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from hoarfrost.cli import app
from hoarfrost.models import cifar_resnet

SMALL = """
import hoarfrost.models
def small(num_classes, in_channels):
    import torch
    model = hoarfrost.models.cifar_resnet(num_classes, in_channels, (4, 8, 8))
    model.fc = torch.nn.Sequential(torch.nn.Dropout(0.2), model.fc)
    return model
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images in two classes, and a module with a small model."""
    from hoarfrost.data import embedded

    data = embedded()
    for number in range(120):
        image, target = data[number]
        place = tmp_path / "images" / str(target % 3)
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number}.png")
    (tmp_path / "nets.py").write_text(SMALL)
    return tmp_path


TRAIN = "train --model nets:small --data images --epochs 4 --batch-size 16 --freeze 1=layer1,2=layer2 --mode cache"


def command(folder: Path, out: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "hoarfrost", *TRAIN.split(), "--out", out, *more]


def run(folder: Path, out: str, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        command(folder, out, *more), cwd=folder, capture_output=True, text=True, env=environment, check=False
    )


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder for commands in this process, which need not import torch once more."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    return folder


def run_here(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"})


def weights(folder: Path, out: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / out / "model.safetensors")
    return found


def test_a_run_leaves_model_metrics_and_report(here: Path) -> None:
    done = run_here(*TRAIN.split(), "--out", "out")
    assert done.exit_code == 0, done.stderr
    names = set(cifar_resnet(3, 3, (4, 8, 8)).state_dict())
    assert {name for name in weights(here, "out") if not name.startswith("fc")} <= names
    records = [json.loads(line) for line in (here / "out/metrics.jsonl").read_text().splitlines()]
    assert [r["event"] for r in records].count("freeze") == 2
    assert [r["source"] for r in records if r["event"] == "epoch"] == ["images", "cache", "cache", "cache"]
    assert records[-1]["event"] == "end"
    assert "<svg" in (here / "out/report.html").read_text()
    assert "frozen up to layer1" in done.stdout


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(folder: Path) -> None:
    assert run(folder, "whole").returncode == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(command(folder, "broken"), cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    metrics = folder / "broken/metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and killed.poll() is None:
        if metrics.exists() and metrics.read_text().count('"event": "epoch"') >= 2:
            break
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    resumed = run(folder, "broken", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    one, other = weights(folder, "whole"), weights(folder, "broken")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_goes_on(folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        command(folder, "out"), cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics = folder / "out/metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and running.poll() is None:
        if metrics.exists() and '"event": "epoch"' in metrics.read_text():
            break
        time.sleep(0.001)
    running.send_signal(signal.SIGINT)
    said, errors = running.communicate(timeout=120)
    assert running.returncode == 130, errors
    assert "interrupted, nothing is lost; to go on: hoarfrost train --out out --resume" in said
    resumed = run(folder, "out", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on with epoch" in resumed.stdout
    again = run(folder, "out", "--resume")
    assert again.returncode == 0, again.stderr
    assert "the run in out is finished: all 4 epochs are trained" in again.stdout
    assert "out/report.html" in again.stdout


def test_an_unknown_cut_is_one_sentence_and_lists_the_near_ones(here: Path) -> None:
    done = run_here(*TRAIN.split(), "--out", "out", "--freeze", "1=layr1")
    assert done.exit_code == 2
    assert "there is no cut named 'layr1'" in done.stderr
    assert "layer1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (here / "out").exists()


def test_an_earlier_run_is_not_overwritten(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/model.safetensors").write_bytes(b"precious")
    done = run(folder, "out")
    assert done.returncode == 2
    assert "holds a run already" in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "out/model.safetensors").read_bytes() == b"precious"


def test_of_several_processes_one_says_what_is_refused(folder: Path) -> None:
    """The launcher ends the others when it has ended."""
    environment = {**os.environ, "WORLD_SIZE": "2", "COLUMNS": "200"}
    said, codes = [], []
    ranks = [
        subprocess.Popen(
            command(folder, "out", "--mode", "fast"),
            cwd=folder,
            env={**environment, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for rank in ranks:
        said.append(rank.communicate(timeout=60)[0])
        codes.append(rank.returncode)
        ranks[1].terminate()
    assert "mode must be one of" in said[0]
    assert said[1] == ""
    assert codes[0] == 2
    assert codes[1] in (2, -signal.SIGTERM)


@pytest.mark.slow
def test_resuming_another_model_is_refused_by_name(folder: Path) -> None:
    assert run(folder, "out", "--epochs", "1", "--freeze", "0=layer1").returncode == 0
    other = SMALL.replace("(4, 8, 8)", "(4, 8, 16)")
    (folder / "nets.py").write_text(other)
    (folder / "out/model.safetensors").unlink()  # as if the run had not come to its end
    done = run(folder, "out", "--epochs", "1", "--freeze", "0=layer1", "--resume")
    assert done.returncode == 2
    assert "is another model's: 'layer3.0.conv1.weight' has the shape" in " ".join(done.stderr.split())


def test_yaml_holds_the_same_names(here: Path) -> None:
    (here / "run.yaml").write_text("disk_budget: 2GiB\nladder: 6\nviews: 1\n")
    done = run_here(*TRAIN.split(), "--out", "out", "--config", "run.yaml")
    assert done.exit_code == 0, done.stderr
    start = json.loads((here / "out/metrics.jsonl").read_text().splitlines()[0])
    assert (start["config"]["disk_budget"], start["config"]["ladder"], start["config"]["views"]) == (2 * 2**30, 6, 1)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--ladder", "steep", "unknown ladder 'steep'"),
        ("--mode", "fast", "mode must be one of"),
        ("--policy", "soon", "there is no policy 'soon'"),
        ("--disk-budget", "big", "'big' is no size"),
        ("--data", "fashion-mist", "unknown data 'fashion-mist'"),
    ],
)
def test_bad_input_is_one_sentence(here: Path, option: str, value: str, told: str) -> None:
    done = run_here("train", "--model", "nets:small", "--data", "images", "--out", "out", option, value)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
