"""Runs whose cache_dir is a URL: the same bits, nothing built twice, and no network that ends one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hoarfrost import Freezer, Selection, Views
from hoarfrost.cache import RemoteCaches, list_caches
from hoarfrost.cli import app
from hoarfrost.errors import ArgumentError, CacheDirectoryError
from hoarfrost.settings import Storing, is_url
from hoarfrost.storing.directory import local_store
from shared.flaky_files import URL, FlakyFiles, failing, flaky
from shared.freezers import N, count_prefix_runs, epoch_of, frozen, run_epoch, same
from shared.images import PLAIN, RANDOM, CountingImages, images
from shared.nets import resnet
from shared.runs import Trace, assert_same_run, train

__all__ = ["flaky"]

POLICY = {0: "layer1", 2: "layer2"}


def trained(url: str | Path | None, local: Path | None, transform: Any = PLAIN, **options: Any) -> Trace:
    told = {"policy": POLICY, "cache_dir": url, "local_dir": local, "chunks": 8, "window": 2, **options}
    return train(resnet(), images(N, transform), **told)


def faults(trace: Trace) -> list[tuple[str, str]]:
    return [(entry["kind"], entry["instead"]) for entry in trace.history if entry["event"] == "fault"]


def heals(trace: Trace) -> int:
    return sum(entry["event"] == "heal" for entry in trace.history)


@pytest.fixture(scope="module")
def wanted() -> Trace:
    """Of a run that recomputes."""
    return trained(None, None, mode="recompute")


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_one_run_publishes_another_reads_and_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Trace, kind: str
) -> None:
    url = f"file://{tmp_path}/far" if kind == "file" else f"memory://{tmp_path}"
    first = trained(url, tmp_path / "one")
    assert first.choices == ["cache", "cache"]
    assert_same_run(first, wanted)
    runs = count_prefix_runs(monkeypatch)
    second = trained(url, tmp_path / "other")
    assert_same_run(second, wanted)
    assert runs == []
    assert (faults(second), heals(second)) == ([], 0)
    # Going deeper removed what was here, and nothing there.
    assert len(list_caches(tmp_path / "other")) == 1
    assert [found.state for found in RemoteCaches(url).caches()] == ["ready", "ready"]


@pytest.mark.slow
def test_views_are_fetched_as_epochs_show_them(tmp_path: Path) -> None:
    url, options = f"memory://{tmp_path}", {"transform": RANDOM, "views": Views(2, Selection(share=0.5))}
    trained(url, tmp_path / "one", **options)
    run = trained(url, tmp_path / "other", **options)
    assert_same_run(run, trained(tmp_path / "known", None, **options))
    assert (faults(run), heals(run)) == ([], 0)


def test_no_image_is_read_for_an_epoch_that_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{tmp_path}"
    with frozen(CountingImages(N, PLAIN), views=1, cache_dir=url, local_dir=tmp_path / "one") as one:
        written = epoch_of(one)
    data, runs = CountingImages(N, PLAIN), count_prefix_runs(monkeypatch)
    with frozen(data, views=1, cache_dir=url, local_dir=tmp_path / "other") as other:
        other.decide(store=True)
        before = data.reads
        assert same(epoch_of(other), written)
    assert (data.reads, runs) == (before, [])


def test_two_runs_on_one_url_and_one_local_store(tmp_path: Path, wanted: Trace) -> None:
    """The second is a run within the first: it reads what that reads, goes deeper before it, and is done."""
    url = f"memory://{tmp_path}"
    inner: list[Trace] = []

    def another(freezer: Freezer, epoch: int) -> None:
        if epoch == 0:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "hoarfrost leaves a cache .* still read the cache")
                inner.append(trained(url, tmp_path / "local"))

    outer = trained(url, tmp_path / "local", after_epoch=another)
    assert_same_run(outer, wanted)
    assert_same_run(inner[0], wanted)
    assert heals(outer) == heals(inner[0]) == 0
    assert len(RemoteCaches(url).caches()) == 2


@pytest.mark.slow
def test_another_process_reads_what_this_one_published(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
import pytest
from shared.freezers import count_prefix_runs, epoch_of, frozen
from shared.images import PLAIN, images

with pytest.MonkeyPatch.context() as patch:
    runs = count_prefix_runs(patch)
    with frozen(images(150, PLAIN), views=1, cache_dir=sys.argv[1], local_dir=sys.argv[2], verbose=False) as freezer:
        print(sum(float(x.double().sum()) for x, _ in epoch_of(freezer)), runs)
"""
    said = [
        subprocess.run(
            [sys.executable, "-c", program, f"file://{tmp_path}/far", str(tmp_path / local)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[1],
        ).stdout.split(" ", 1)
        for local in ("one", "other")
    ]
    assert said[0][0] == said[1][0]
    assert said[0][1] != "[]\n"
    assert said[1][1] == "[]\n"


def test_what_is_damaged_at_the_url_is_computed(tmp_path: Path, flaky: type[FlakyFiles], wanted: Trace) -> None:
    trained(URL, tmp_path / "one")
    for path in [path for path in flaky.store if path.endswith("features.bin")]:
        data = bytearray(flaky().cat_file(path))
        data[len(data) // 2] ^= 1
        flaky().pipe_file(path, bytes(data))
    run = trained(URL, tmp_path / "other")
    assert_same_run(run, wanted)
    assert heals(run) >= 1
    assert faults(run) == []


def test_what_is_damaged_here_is_fetched(tmp_path: Path) -> None:
    url = f"memory://{tmp_path}"
    with frozen(CountingImages(N, RANDOM), views=1, cache_dir=url, local_dir=tmp_path / "local") as freezer:
        epoch_of(freezer)
    (path,) = (tmp_path / "local").rglob("features.bin")
    path.write_bytes(path.read_bytes()[:1000])
    data = CountingImages(N, RANDOM)
    with frozen(data, views=1, cache_dir=url, local_dir=tmp_path / "local") as freezer:
        freezer.decide(store=True)
        before = data.reads
        epoch_of(freezer)
        assert [entry for entry in freezer.history if entry["event"] in ("heal", "fault")] == []
    assert data.reads == before


def test_a_network_that_is_down_ends_no_run(tmp_path: Path, flaky: type[FlakyFiles], wanted: Trace) -> None:
    with failing(), pytest.warns(UserWarning, match="the network is down"):
        run = trained(URL, tmp_path / "local")
    assert_same_run(run, wanted)
    assert set(faults(run)) == {
        ("RemoteCacheError", "goes on without looking at the URL"),
        ("RemoteCacheError", "goes on without publishing a cache"),
    }
    assert flaky.store == {}


@pytest.mark.parametrize("files", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2)), 3])
def test_a_network_that_fails_while_a_cache_is_published(tmp_path: Path, flaky: type[FlakyFiles], files: int) -> None:
    options = {"policy": {0: "layer1"}, "epochs": 1}
    with failing("put_file", after=files), pytest.warns(UserWarning, match="goes on without publishing a cache"):
        trained(URL, tmp_path / "local", **options)
    assert [found.state for found in RemoteCaches(URL).caches()] in ([], ["unfinished"])
    trained(URL, tmp_path / "local", **options)  # it stands here, and is published by who reads it next
    assert [found.state for found in RemoteCaches(URL).caches()] == ["ready"]


def test_a_network_that_fails_within_an_epoch(tmp_path: Path, flaky: type[FlakyFiles], wanted: Trace) -> None:
    trained(URL, tmp_path / "one")
    with failing("cat_ranges", after=1), pytest.warns(UserWarning, match="computes what cannot be fetched"):
        run = trained(URL, tmp_path / "other")
    assert_same_run(run, wanted)
    assert heals(run) > 0


def test_a_cache_that_vanishes_from_the_url_within_a_run(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    with frozen(images(N, PLAIN), views=1, cache_dir=URL, local_dir=tmp_path / "one") as one:
        written = epoch_of(one)
    with frozen(images(N, PLAIN), views=1, cache_dir=URL, local_dir=tmp_path / "other") as other:
        other.decide(store=True)
        flaky.store.clear()
        with pytest.warns(UserWarning, match=r"computes what cannot be fetched: .* failed at flaky://.* FileNotFound"):
            assert same(epoch_of(other), written)
        assert len([entry for entry in other.history if entry["event"] == "heal"]) == 3
        assert same(epoch_of(other), written)


def test_a_state_goes_on_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, options = f"memory://{tmp_path}", {"views": 1, "policy": {0: "layer1"}}
    model = resnet()
    with frozen(images(N, RANDOM), model, cache_dir=url, local_dir=tmp_path / "one", **options) as one:
        run_epoch(one, 0)
        state, weights = one.state_dict(), {name: value.clone() for name, value in model.state_dict().items()}
        coming = epoch_of(one, 1)
    runs = count_prefix_runs(monkeypatch)
    moved = resnet(seed=3)
    moved.load_state_dict(weights)
    with frozen(images(N, RANDOM), moved, cache_dir=url, local_dir=tmp_path / "other", **options) as other:
        other.load_state_dict(state)
        assert same(epoch_of(other, 1), coming)
    assert runs == []


def test_a_deeper_cache_is_built_from_one_that_is_fetched(tmp_path: Path, wanted: Trace) -> None:
    url = f"memory://{tmp_path}"
    trained(url, tmp_path / "one", policy={0: "layer1"})
    run = trained(url, tmp_path / "other", build_from="features")
    assert_same_run(run, wanted)
    assert [bool(entry["built_from"]) for entry in run.history if entry["event"] == "freeze"] == [False, True]


def test_without_a_local_dir_it_is_kept_in_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    url = f"memory://user:password@{tmp_path}"
    with frozen(views=1, cache_dir=url) as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        assert freezer.cache.path.parent == local_store(url)
    (info,) = list_caches(local_store(url))
    assert info.state == "ready"
    assert local_store(url).parent == tmp_path / "home" / "hoarfrost"
    assert "password" not in str(local_store(url))


@pytest.mark.parametrize("name", ["a:b", "memory:here", "12:30/cache", "a b://c"])
def test_a_path_with_a_colon_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert Storing(cache_dir=name).url is None
    with frozen(views=1, cache_dir=name) as freezer:
        epoch_of(freezer)
    assert len(list_caches(tmp_path / name)) == 1


@pytest.mark.parametrize("told", ["s3:/bucket/caches", Path("s3://bucket/caches")])
def test_a_url_that_has_lost_a_slash_is_refused(told: str | Path) -> None:
    with pytest.raises(
        ArgumentError, match=r"is a URL without one of its slashes.* give the text 's3://bucket/caches'"
    ):
        Storing(cache_dir=told)


@pytest.mark.parametrize(
    "url", ["s3://bucket/caches", "memory://", "file:///tmp", "simplecache::s3://b", "git+x.y://z"]
)
def test_what_is_a_url(url: str) -> None:
    assert is_url(url)
    assert Storing(cache_dir=url).cache_dir == url


@pytest.mark.parametrize("cache_dir", [None, "here"])
def test_a_local_dir_is_for_a_url(cache_dir: str | None) -> None:
    with pytest.raises(ArgumentError, match="local_dir='fast' is for what lies at a URL, but cache_dir is"):
        Storing(cache_dir=cache_dir, local_dir="fast")
    with pytest.raises(ArgumentError, match="local_dir must be a directory's name, or None, not 's3://b'"):
        Storing(cache_dir="s3://a", local_dir="s3://b")


def test_a_url_that_nothing_can_read_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    data = images(N, RANDOM)
    with pytest.raises(ArgumentError, match="caches cannot be kept at 'nosuch://here'"):
        frozen(data, cache_dir="nosuch://here", local_dir=tmp_path / "local")
    assert data.transform is RANDOM
    assert not (tmp_path / "local").exists()


def test_a_local_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "local").write_text("mine")
    with pytest.raises(CacheDirectoryError, match=r"local_dir .*local is a file"):
        frozen(cache_dir=f"memory://{tmp_path}", local_dir=tmp_path / "local")


def test_the_command_lists_checks_and_removes_what_lies_at_a_url(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/far"
    with frozen(views=1, cache_dir=url, local_dir=tmp_path / "local") as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        key = freezer.cache.fingerprint.key

    def said(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["cache", *words])
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    assert f"{key} ready layer1" in said("ls", url)
    assert "nothing damaged" in said("verify", url)
    (path,) = (tmp_path / "far").rglob("features.bin")
    path.write_bytes(path.read_bytes()[:-5])
    assert "1 damaged" in said("verify", url, code=1)
    assert "0 removed" in said("prune", url)
    assert "1 removed" in said("prune", url, "--all", "--yes")
    assert not list((tmp_path / "far").iterdir())
    assert len(list_caches(tmp_path / "local")) == 1
    assert "Protocol not known" in said("ls", "nosuch://here", code=2)
    assert "there is nothing at memory://typo" in said("ls", "memory://typo", code=2)


def test_of_two_builds_of_one_cache_each_is_checked(tmp_path: Path) -> None:
    far = tmp_path / "far"
    for name in ("one", "other"):
        with frozen(views=1, cache_dir=f"file://{tmp_path}/{name}-far", local_dir=tmp_path / name) as freezer:
            epoch_of(freezer)
        shutil.copytree(tmp_path / f"{name}-far", far, dirs_exist_ok=True)
    *_, last = sorted(far.rglob("features.bin"))
    last.write_bytes(last.read_bytes()[:-5])
    result = CliRunner().invoke(app, ["cache", "verify", far.as_uri()])
    assert (result.exit_code, "2 caches checked" in result.output) == (1, True)
    assert last.parent.name in "".join(result.output.split())  # not the copy that was looked at
    (last.parent / "manifest.json").write_text("{")
    result = CliRunner().invoke(app, ["cache", "verify", far.as_uri()])
    assert result.exit_code == 1
    assert "the manifest in" in result.output


def test_a_directory_that_was_published_in_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    far = tmp_path / "far"
    assert_same_run(trained(far.as_uri(), tmp_path / "local"), trained(None, None, mode="recompute"))
    before = sorted(far.rglob("*"))
    for told in ({"cache_dir": far}, {"cache_dir": "memory://x", "local_dir": far}):
        with pytest.raises(CacheDirectoryError, match=r"holds caches that were published there.*cache_dir='file"):
            frozen(**told)
    assert sorted(far.rglob("*")) == before


@pytest.mark.parametrize("local", ["far", "local"])
def test_nothing_is_published_among_caches_of_runs_that_name_the_directory(tmp_path: Path, local: str) -> None:
    far = tmp_path / "far"
    with frozen(views=1, cache_dir=far) as freezer:
        epoch_of(freezer)
    before = sorted(path for path in far.rglob("*") if path.is_dir())
    with frozen(views=1, cache_dir=far.as_uri(), local_dir=tmp_path / local) as freezer:
        with pytest.warns(UserWarning, match="is a cache of runs that name this directory by its path"):
            epoch_of(freezer)
        assert [entry["kind"] for entry in freezer.history if entry["event"] == "fault"] == ["RemoteCacheError"]
    assert sorted(path for path in far.rglob("*") if path.is_dir()) == before


@pytest.mark.parametrize("room", [0, 60_000], ids=["for nothing", "for some"])
def test_a_run_whose_cache_this_disk_has_no_room_for_reads_it_as_it_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Trace, room: int
) -> None:
    url = f"memory://{tmp_path}"
    trained(url, tmp_path / "one")
    runs = count_prefix_runs(monkeypatch)
    run = trained(url, tmp_path / "other", local_budget=room, memory_budget=0)
    assert_same_run(run, wanted)
    assert (runs, faults(run), heals(run)) == ([], [], 0)


def test_a_cache_that_is_pruned_between_look_up_and_copy_is_built(
    tmp_path: Path, flaky: type[FlakyFiles], wanted: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(URL, tmp_path / "one")
    copied = RemoteCaches._copied

    def late(remote: RemoteCaches, *told: Any) -> None:
        flaky.store.clear()
        copied(remote, *told)

    monkeypatch.setattr(RemoteCaches, "_copied", late)
    with pytest.warns(UserWarning, match="goes on without looking at the URL: fetching a cache failed"):
        run = trained(URL, tmp_path / "other")
    assert_same_run(run, wanted)
    assert [found.state for found in RemoteCaches(URL).caches()].count("ready") == 2


def test_a_local_budget_is_for_a_url(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"local_budget=2,000 is for what lies at a URL, .* bounded by disk_budget"):
        Storing(cache_dir=tmp_path, local_budget="2KB")
    with pytest.raises(ArgumentError, match="local_budget is a number of bytes, at least 0, not -1"):
        Storing(cache_dir="memory://x", local_budget=-1)
