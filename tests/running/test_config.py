"""What a run is told, from options, from a file, and from what an earlier process was told."""

from __future__ import annotations

import os
from inspect import signature
from pathlib import Path

import pytest
import yaml

from hoarfrost import Freezer
from hoarfrost.errors import ArgumentError, HoarfrostError
from hoarfrost.policies import resolve_policy
from hoarfrost.running import RunConfig
from hoarfrost.settings import parse_bytes


def test_options_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("epochs: 7\nfreeze: {2: layer1}\nlr: 0.2\n")
    config = RunConfig.told(tmp_path / "run.yaml", lr=0.3)
    assert (config.freezing.epochs, config.lr, config.points) == (7, 0.3, {2: "layer1"})


def test_a_written_configuration_reads_back(tmp_path: Path) -> None:
    config = RunConfig.told(epochs=3, freeze={1: "layer1", 2: 4}, disk_budget="2GiB", out=str(tmp_path))
    config.write(tmp_path / "config.yaml")
    assert RunConfig.told(tmp_path / "config.yaml") == config
    RunConfig().write(tmp_path / "plain.yaml")
    assert RunConfig.told(tmp_path / "plain.yaml") == RunConfig()


def test_a_resumed_run_remembers(tmp_path: Path) -> None:
    begun = RunConfig.told(epochs=3, cut="layer1", out=str(tmp_path))
    begun.write(tmp_path / "config.yaml")
    assert RunConfig.told(resume=True, out=str(tmp_path)) == begun
    assert RunConfig.told(resume=True, out=str(tmp_path), workers=2).rendering.workers == 2
    assert RunConfig.told(resume=True, out=str(tmp_path), epochs=3) == begun
    with pytest.raises(
        ArgumentError, match=r"was begun with epochs=3 and cannot go on with 4; when resuming, leave it"
    ):
        RunConfig.told(resume=True, out=str(tmp_path), epochs=4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch: 3\n", "unknown names epoch; known are background"),
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
    first = RunConfig.told(model="nets:small", data="images/birds").folder()
    assert first == Path("runs/nets-small-birds")
    first.mkdir(parents=True)
    assert RunConfig.told(model="nets:small", data="images/birds").folder() == Path("runs/nets-small-birds-2")


def test_an_order_for_a_full_disk_is_checked_when_it_is_told() -> None:
    assert RunConfig.told(over_budget="rung,views").storing.over_budget.ways == ("rung", "views")
    with pytest.raises(ArgumentError, match="there is no 'luck'"):
        RunConfig.told(over_budget="luck")


def test_the_configuration_of_an_earlier_release_reads(tmp_path: Path) -> None:
    written = (
        "data: images\nepochs: 3\nbatch_size: 32\nfreeze:\n  1: layer1\nviews: 1\nladder: 8\nmode: cache\n"
        "settle: average\ndisk_budget: 2147483648\nover_budget: rung,views\ncache_dir: stored\nwindow: 4\n"
        "tolerance: 0.01\nbuild_from: features\nworkers: 2\nchannels_last: true\nseed: 5\nout: runs/old\n"
    )
    (tmp_path / "config.yaml").write_text(written)
    config = RunConfig.told(tmp_path / "config.yaml")
    assert (config.data, config.out, config.points) == ("images", "runs/old", {1: "layer1"})
    assert (config.freezing.epochs, config.freezing.settle, config.reading.batch_size) == (3, "average", 32)
    assert (config.storing.views.count, config.storing.ladder, config.storing.cache_dir) == (1, 8, Path("stored"))
    assert (config.rendering.seed, config.rendering.workers, config.rendering.channels_last) == (5, 2, True)
    config.write(tmp_path / "again.yaml")
    assert yaml.safe_load((tmp_path / "again.yaml").read_text()) == yaml.safe_load(written)


NO_SETTINGS = {"model", "dataset", "transform", "optimizer", "mix", "criterion", "input", "collate_fn", "verbose"}


def test_the_freezer_takes_every_keyword() -> None:
    known = set(signature(Freezer).parameters) - NO_SETTINGS
    assert set(RunConfig().keywords) == known
    assert RunConfig.told(cut="layer1", epochs=8).keywords["policy"] == {2: "layer1"}


@pytest.mark.parametrize("epochs", [None, 0, 1.5, True])
def test_a_run_has_a_number_of_epochs(epochs: object) -> None:
    with pytest.raises(ArgumentError, match="epochs must be a whole number of at least 1"):
        RunConfig.told(epochs=epochs)


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


BOMB = "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b, *b, *b]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, r"cannot be read: it refers to a value by an alias, \*a"),
        ("lr: " + "[" * 10**5, "cannot be read: it is nested deeper than 40 levels"),
        ("? " * 5000, "cannot be read: it is nested deeper than 40 levels"),
        ("lr: 2001-13-45", "cannot be read: month must be in"),
        ("lr: " + "9" * 5000, "cannot be read"),
        ("lr: 0x" + "f" * 5000, "it holds a value of 5,002 characters, where 1,000 are the most"),
        ("lr: 1" + ":59" * 5000, "it holds a value of 15,001 characters"),
        ("lr: 2001-01-01", "lr must be a finite number, not '2001-01-01'"),
        ("lr: !!python/object/apply:os.system [ls]", "cannot be read: could not determine a constructor"),
        ("lr: '0.1'", "lr must be a finite number, not '0.1'"),
        ("{1: 2, a: 3}", "has unknown names 1, a"),
        ("views: {'': 1}", "views are told by the fields of hoarfrost.Views"),
        ("views: {channels: {share: [1]}}", "views are told by the fields of hoarfrost.Views"),
        ("views: {channels: {threshold: 1" + "0" * 400 + "}}", "Selection: threshold must be a number, got 1000"),
        ("views: {channels: {budget_bytes: .nan}}", "Selection: budget_bytes must be 0 or more, got nan"),
        ("cache_dir: 3", "cache_dir must be a directory's name, or None, not 3"),
        ("over_budget: 8", "over_budget names ways, 'views', 'rung', 'cut', 'recompute', not 8"),
        ("pretrained: 1", "pretrained must be true or false, not '1'"),
        ("workers: .inf", "workers must be a whole number, not 'inf'"),
        ("policy: egeria:tolerance=" + "(" * 1000, "cannot be read|tolerance"),
    ],
)
def test_a_configuration_from_a_stranger_is_refused_by_name(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(HoarfrostError, match=words):
        resolve_policy(RunConfig.told(path).points)


@pytest.mark.parametrize(
    ("kind", "words"), [("pipe", "a named pipe"), ("directory", "a directory"), ("zero", "a device")]
)
def test_a_configuration_is_a_regular_file(kind: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ArgumentError, match=rf"run\.yaml cannot be read: .*it is {words}, not a regular file"):
        RunConfig.told(path)


def test_a_large_configuration_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "run.yaml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArgumentError, match="1,099,511,627,776 bytes long, where 1,048,576 are the most"):
        RunConfig.told(tmp_path / "run.yaml")
