"""Several runs on one cache directory: one builds, others wait and read; nobody removes what another reads."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from hoarfrost import Freezer
from hoarfrost.cache import prune
from hoarfrost.cache.locking import CacheLock
from hoarfrost.storing import shared_build

RUN = """
import sys, time, warnings
import torch
from torch import nn
from hoarfrost import Freezer

class Slow(torch.utils.data.Dataset):
    def __init__(self, seconds):
        torch.manual_seed(0)
        self.seconds, self.x = seconds, torch.randn(48, 3, 8, 8)
    def __len__(self):
        return 48
    def __getitem__(self, n):
        if self.seconds and told:
            time.sleep(self.seconds)
        return self.x[n], n % 3

def model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))

told = []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with Freezer(model(), Slow(float(sys.argv[2])), batch_size=16, epochs=2, policy={0: "1"}, mode="cache",
                 ladder="exact", views=1, cache_dir=sys.argv[1], verbose=False) as freezer:
        told.append("begun")
        print("ready", flush=True)
        if sys.argv[3] == "wait":
            sys.stdin.readline()
        total = sum(float(freezer(x).sum()) for x, y in freezer.batches(0))
        print(total, flush=True)
        if sys.argv[3] == "hold":
            sys.stdin.readline()
print([str(w.message) for w in caught if "waits" in str(w.message)], flush=True)
"""


def begin(folder: Path, seconds: float, how: str) -> subprocess.Popen[str]:
    """Another run in this directory, up to where its Freezer is made."""
    command = [sys.executable, "-c", RUN, str(folder), str(seconds), how]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "ready\n"
    return run


@pytest.mark.slow
def test_of_two_that_begin_together_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    waiting = begin(tmp_path, 0.0, "wait")
    building = begin(tmp_path, 0.1, "go")
    while not list(tmp_path.glob("building-*/building.json")):
        assert building.poll() is None
    said = waiting.communicate("\n")[0].splitlines()
    built = building.communicate()[0].splitlines()
    assert (building.returncode, waiting.returncode) == (0, 0)
    assert built[0] == said[0]
    assert built[1] == "[]"
    assert f"process {building.pid} is writing" in said[1]
    assert "waits up to 600 s" in said[1]


def small() -> tuple[nn.Module, TensorDataset]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    return model, TensorDataset(torch.randn(48, 3, 8, 8), torch.arange(48) % 3)


def freezer(folder: Path, epochs: int = 3) -> Freezer:
    model, data = small()
    told = {"policy": {0: "1", 1: "3"}, "mode": "cache", "ladder": "exact", "views": 1, "cache_dir": folder}
    return Freezer(model, data, batch_size=16, epochs=epochs, verbose=False, **told)


def test_who_goes_deeper_leaves_what_another_reads(tmp_path: Path) -> None:
    with freezer(tmp_path) as one, freezer(tmp_path) as other:
        for each in (one, other):
            list(each.batches(0))
        (shared,) = tmp_path.glob("?" * 16)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            one.end_epoch()
            wanted = [x for x, _ in one.batches(1)]
            one.end_epoch()
            list(one.batches(2))
        assert any("still read the cache" in str(w.message) for w in caught)
        assert shared.is_dir()
        other.end_epoch()
        read = [x for x, _ in other.batches(1)]
        assert all(map(torch.equal, wanted, read))
        other.end_epoch()
        list(other.batches(2))
        other.end_epoch()
        assert not shared.is_dir()  # the last one has gone deeper
    assert not list(tmp_path.glob("*.readers"))


def test_who_waits_too_long_recomputes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_build, "WAIT_SECONDS", 0.1)
    with freezer(tmp_path) as undisturbed:
        wanted = [x for x, _ in undisturbed.batches(0)]
        (made,) = (path for path in tmp_path.iterdir() if len(path.name) == 16)
        key = made.name
    prune(tmp_path)
    with CacheLock(tmp_path, key), freezer(tmp_path) as run, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = [x for x, _ in run.batches(0)]
        assert [record["choice"] for record in run.history if record["event"] == "freeze"] == ["recompute"]
    assert all(map(torch.equal, wanted, got))
    assert any("waits up to 0 s" in str(w.message) for w in caught)


def test_what_several_ranks_have_built_is_gone_on_with_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were killed: a part lies there, and no cache."""
    with freezer(tmp_path) as undisturbed:
        wanted = [x for x, _ in undisturbed.batches(0)]
        key = Path(undisturbed.cache.path).name
    part = tmp_path / ".parts" / f"{key}-1"
    part.mkdir(parents=True)
    made = (tmp_path / key).rename(part / f"building-{key}")
    (made / "manifest.json").rename(made / "building.json")
    asked: list[int] = []
    with freezer(tmp_path) as run:
        monkeypatch.setattr(run._data.samples, "stream_told", lambda groups, draw: asked.extend(groups) or iter(()))
        got = [x for x, _ in run.batches(0)]
    assert not asked  # no image is run through the prefix
    assert all(map(torch.equal, wanted, got))
    assert not (tmp_path / ".parts").exists()
