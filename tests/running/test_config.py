"""What a run is told, from options, from a file, and from what an earlier process was told."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoarfrost.errors import ArgumentError
from hoarfrost.running.config import RunConfig, parse_bytes


def test_options_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("epochs: 7\nfreeze: {2: layer1}\nlr: 0.2\n")
    config = RunConfig.told(tmp_path / "run.yaml", lr=0.3)
    assert (config.epochs, config.lr, config.points) == (7, 0.3, {2: "layer1"})


def test_a_written_configuration_reads_back(tmp_path: Path) -> None:
    config = RunConfig(epochs=3, freeze={1: "layer1", 2: 4}, disk_budget="2GiB", out=str(tmp_path))
    config.write(tmp_path / "config.yaml")
    assert RunConfig.told(tmp_path / "config.yaml") == config
    RunConfig().write(tmp_path / "plain.yaml")
    assert RunConfig.told(tmp_path / "plain.yaml") == RunConfig()


def test_a_resumed_run_remembers(tmp_path: Path) -> None:
    begun = RunConfig(epochs=3, cut="layer1", out=str(tmp_path))
    begun.write(tmp_path / "config.yaml")
    assert RunConfig.told(resume=True, out=str(tmp_path)) == begun
    assert RunConfig.told(resume=True, out=str(tmp_path), workers=2).workers == 2
    assert RunConfig.told(resume=True, out=str(tmp_path), epochs=3) == begun
    with pytest.raises(
        ArgumentError, match=r"was begun with epochs=3 and cannot go on with 4; when resuming, leave it"
    ):
        RunConfig.told(resume=True, out=str(tmp_path), epochs=4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch: 3\n", "unknown names epoch; known are batch_size"),
        ("- 3\n", "holds a list, not names with values"),
        ("a: [", "cannot be read"),
    ],
    ids=["unknown", "list", "broken"],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ArgumentError, match=words):
        RunConfig.told(tmp_path / "run.yaml")


def test_a_new_run_gets_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = RunConfig(model="nets:small", data="images/birds").folder()
    assert first == Path("runs/nets-small-birds")
    first.mkdir(parents=True)
    assert RunConfig(model="nets:small", data="images/birds").folder() == Path("runs/nets-small-birds-2")


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("10", 10), ("2kB", 2000), ("1.5 MB", 1_500_000), ("2GiB", 2 * 2**30), ("1 tib", 2**40)],
)
def test_sizes(text: str, bytes_: int) -> None:
    assert parse_bytes(text) == bytes_


@pytest.mark.parametrize("text", ["", "big", "1.2.3MB", "3 parsecs", "."])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ArgumentError, match="is no size; write 500MB, 2GiB"):
        parse_bytes(text)


def test_an_order_for_a_full_disk_is_checked_when_it_is_told() -> None:
    assert RunConfig(over_budget="rung,views").over_budget == "rung,views"
    with pytest.raises(ArgumentError, match="there is no 'luck'"):
        RunConfig(over_budget="luck")
