"""What the commands show and how they refuse; training itself is in test_end_to_end.py."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from hoarfrost import running
from hoarfrost.cache import Cache, CacheSpec, Fingerprint, list_caches
from hoarfrost.cache.locking import CacheLock
from hoarfrost.checkpoints import save_model
from hoarfrost.cli import app
from hoarfrost.codecs import Linear
from hoarfrost.models import cifar_resnet


def hoarfrost(*words: str | Path, **more: Any) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "80", "NO_COLOR": "1"}, **more)


def told(result: Result) -> str:
    return " ".join((result.output + (result.stderr or "")).split())


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A directory with a finished cache and an abandoned build."""
    spec = CacheSpec(
        samples=4,
        chunk_size=4,
        shape=(2, 3, 3),
        dtype=torch.float32,
        channel_axis=1,
        channels_last=False,
        codec=Linear(4),
        stored=(None,),
    )
    for number in (1, 2):
        writer = Cache.create(tmp_path / "cache", Fingerprint({"number": number, "cut": "layer1"}), spec)
        writer.append(0, 0, [0, 1, 2, 3], torch.zeros(4, dtype=torch.long), torch.randn(4, 2, 3, 3))
        if number == 1:
            writer.commit()
        del writer
    return tmp_path / "cache"


def test_cuts_are_shown_with_their_share_of_the_work() -> None:
    shown = hoarfrost("cuts", "cifar_resnet", "--data", "embedded")
    assert shown.exit_code == 0
    assert "layer1 16x28x28 NCHW 50.2 kB 39.9 % 4.85 k" in told(shown)
    assert "5 more lie inside blocks or behind the stem (--all shows them)" in told(shown)
    assert "stem.0" not in shown.output
    assert "· stem.0" in hoarfrost("cuts", "cifar_resnet", "--data", "embedded", "--all").output


def test_cuts_for_programs() -> None:
    shown = hoarfrost("cuts", "cifar_resnet", "--data", "embedded", "--image-size", "32", "--classes", "3", "--json")
    assert shown.exit_code == 0
    found = json.loads(shown.stdout)
    assert (found["model"], found["image"], found["hidden"]) == ("cifar_resnet", [1, 32, 32], 5)
    assert [cut["label"] for cut in found["cuts"]] == ["layer1", "layer2", "layer3"]
    first, last = found["cuts"][0], found["cuts"][-1]
    assert first["tensors"] == [{"source": "layer1", "shape": [16, 32, 32], "dtype": "float32"}]
    assert first["bytes_per_sample"] == 4 * 16 * 32 * 32
    model = cifar_resnet(3, 1)
    behind = sum(parameter.numel() for parameter in model.fc.parameters())
    assert last["parameters_in_front"] == sum(parameter.numel() for parameter in model.parameters()) - behind
    every = hoarfrost("cuts", "cifar_resnet", "--data", "embedded", "--all", "--json")
    assert len(json.loads(every.stdout)["cuts"]) == len(found["cuts"]) + found["hidden"]


def test_the_help_groups_its_options() -> None:
    lines = hoarfrost("train", "--help").output.splitlines()
    panels = [line.strip("╭╮─ ") for line in lines if line.startswith("╭")]
    assert panels == ["Options", "Model and data", "Training", "Freezing and storing", "Run"]


def test_cuts_of_a_model_that_does_not_exist() -> None:
    refused = hoarfrost("cuts", "resnt18")
    assert refused.exit_code == 2
    assert "resnet18" in told(refused)


def test_no_line_is_wider_than_the_terminal(stored: Path) -> None:
    for words in (["cuts", "resnet18", "--image-size", "64"], ["cache", "ls", str(stored)], ["train", "--help"]):
        assert max(map(len, hoarfrost(*words).output.splitlines())) <= 80


def test_caches_are_listed(stored: Path) -> None:
    shown = told(hoarfrost("cache", "ls", stored))
    for info in list_caches(stored):
        assert f"{info.key} {info.state} layer1 4 x 1 linear 4" in shown


def test_where_nothing_was_checked_nothing_is_called_whole(tmp_path: Path) -> None:
    assert "no finished caches 0 caches checked" in told(hoarfrost("cache", "verify", tmp_path))


def test_a_damaged_cache_is_found(stored: Path) -> None:
    whole = hoarfrost("cache", "verify", stored)
    assert (whole.exit_code, "nothing damaged" in told(whole)) == (0, True)
    (ready,) = [info for info in list_caches(stored) if info.state == "ready"]
    data = next(
        path
        for path in ready.path.iterdir()
        if path.stat().st_size == max(p.stat().st_size for p in ready.path.iterdir())
    )
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0xFF
    data.write_bytes(bytes(content))
    damaged = hoarfrost("cache", "verify", stored)
    assert damaged.exit_code == 1
    assert "damaged" in damaged.output
    assert ready.key in damaged.output


def test_pruning_removes_what_is_abandoned_and_no_more(stored: Path) -> None:
    assert "1 removed" in hoarfrost("cache", "prune", stored).output
    assert [info.state for info in list_caches(stored)] == ["ready"]
    refused = hoarfrost("cache", "prune", stored, "--all", input="n\n")
    assert (refused.exit_code, len(list_caches(stored))) == (1, 1)
    kept = list_caches(stored)[0].key
    mistyped = hoarfrost("cache", "prune", stored, "--all", "--yes", "--keep", kept[:-1])
    assert (mistyped.exit_code, len(list_caches(stored))) == (2, 1)
    assert "there is no such cache" in told(mistyped)
    assert "0 removed" in hoarfrost("cache", "prune", stored, "--all", "--yes", "--keep", kept).output
    assert "1 removed" in hoarfrost("cache", "prune", stored, "--all", "--yes").output
    assert list_caches(stored) == []


def test_pruning_leaves_a_finished_cache_that_is_damaged(stored: Path) -> None:
    (ready,) = [info for info in list_caches(stored) if info.state == "ready"]
    (ready.path / "manifest.json").write_text("{")
    assert "1 removed" in hoarfrost("cache", "prune", stored).output
    assert [(info.key, info.state) for info in list_caches(stored)] == [(ready.key, "damaged")]


def test_pruning_leaves_what_is_being_written(stored: Path) -> None:
    (building,) = [info for info in list_caches(stored) if info.state == "building"]
    with CacheLock(stored, building.key):
        assert "0 removed" in hoarfrost("cache", "prune", stored).output
    assert "1 removed" in hoarfrost("cache", "prune", stored).output


def test_a_directory_that_is_not_there() -> None:
    refused = hoarfrost("cache", "ls", "nowhere")
    assert refused.exit_code == 2
    assert "nowhere" in told(refused)


def test_reports_of_several_runs_side_by_side(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        records = [
            {"event": "start", "model": "m", "data": "d", "samples": 10, "epochs": 1, "seed": 0, "cuts": []},
            {"event": "epoch", "epoch": 0, "depth": 0, "cut": None, "source": "images", "loss": 1.0, "accuracy": 0.5}
            | {"seconds": 1.0, "cache_bytes": 0},
        ]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    done = hoarfrost("report", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "both.html")
    assert done.exit_code == 0, told(done)
    page = (tmp_path / "both.html").read_text()
    assert "one" in page
    assert "two" in page
    assert hoarfrost("report", tmp_path / "one").exit_code == 0
    assert (tmp_path / "one/report.html").exists()
    refused = hoarfrost("report", tmp_path)
    assert refused.exit_code == 2
    assert "metrics.jsonl cannot be read" in told(refused)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--freeze", "layer1"], "'layer1' is no schedule; write 5=layer1,10=layer2"),
        (["--samples", "0"], "samples must lie between 1 and 10000"),
        (["--cut", "layer1", "--freeze", "1=layer1"], "give cut or freeze, not both"),
        (["--lr", "0"], "lr must be above 0"),
        (["--resume"], "name the run's folder: --out"),
        (["--resume", "--out", "nowhere"], "there is no run to resume in nowhere"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(words: list[str], sentence: str, tmp_path: Path) -> None:
    out = [] if "--resume" in words else ["--out", str(tmp_path / "out")]
    refused = hoarfrost("train", *words, *out)
    assert refused.exit_code == 2
    assert sentence in told(refused)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_ctrl_c_is_a_sentence_and_a_further_one_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "train", interrupted)
    before = signal.getsignal(signal.SIGINT)
    try:
        stopped = hoarfrost("train", "--out", tmp_path / "out")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped.exit_code == 130
    assert "stopped at once; no epoch was finished yet" in told(stopped)


def test_sensitivity_is_shown_measured_and_drawn(tmp_path: Path) -> None:
    measuring = ["sensitivity", "--cut", "layer1", "--cut", "layer3", "--samples", "12", "--share", "0.25"]
    shown = hoarfrost(*measuring, "--out", tmp_path / "page.html")
    assert shown.exit_code == 0, told(shown)
    assert max(len(line) for line in shown.stdout.splitlines() if not line.startswith("picture ")) <= 80
    assert "RandomHorizontalFlip: paired, has a form on images and one on features" in told(shown)
    assert "ToImage, ToDtype, Normalize: deterministic" in told(shown)
    assert "HorizontalFlip Crop" in told(shown)
    assert "layer3 64x7x7" in told(shown)
    assert "layer2" not in shown.stdout
    assert "</html>" in (tmp_path / "page.html").read_text()
    plain = json.loads(hoarfrost(*measuring, "--json").stdout)
    assert [(cut["cut"], len(cut["sensitivity"])) for cut in plain["cuts"]] == [("layer1", 16), ("layer3", 64)]
    assert [len(cut["further"][0]["channels"]) for cut in plain["cuts"]] == [4, 16]
    assert (plain["samples"], plain["metric"], plain["data"]) == (12, "cosine", "embedded")


def test_sensitivity_of_trained_weights(tmp_path: Path) -> None:
    def measured(*words: str | Path) -> Any:
        words = ("sensitivity", "--cut", "layer1", "--samples", "8", "--json", *words)
        return json.loads(hoarfrost(*words).stdout)["cuts"][0]["sensitivity"]

    torch.manual_seed(5)
    save_model(tmp_path / "model.safetensors", cifar_resnet(10, 1))
    given = measured("--weights", tmp_path / "model.safetensors")
    assert given == measured("--weights", tmp_path / "model.safetensors")
    assert given != measured()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--cut", "layr1"], "there is no cut named 'layr1' among 8; near it: layer1"),
        (["--metric", "taste"], "not 'taste'"),
        (["--share", "2"], "share must be from 0 to 1, got 2.0"),
        (["--weights", "nowhere.safetensors"], "the weights nowhere.safetensors cannot be read as safetensors"),
        (["--model", "resnt18"], "resnet18"),
    ],
)
def test_what_sensitivity_cannot_measure_is_one_sentence(words: list[str], sentence: str) -> None:
    refused = hoarfrost("sensitivity", "--samples", "4", *words)
    assert refused.exit_code == 2
    assert sentence in told(refused)


def test_sensitivity_refuses_weights_of_another_model(tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", cifar_resnet(10, 3))
    refused = hoarfrost("sensitivity", "--weights", tmp_path / "model.safetensors")
    assert refused.exit_code == 2
    assert "model.safetensors are not those of cifar_resnet: size mismatch for stem" in told(refused)
