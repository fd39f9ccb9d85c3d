"""Caches at s3://, on a server of this process (extra `s3-tests`)."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hoarfrost.cache import RemoteCaches
from shared.freezers import N, count_prefix_runs, epoch_of, frozen, same
from shared.images import PLAIN, CountingImages, images
from shared.nets import resnet
from shared.runs import assert_same_run, train

fsspec = pytest.importorskip("fsspec")
s3fs = pytest.importorskip("s3fs", reason="pip install 'hoarfrost[s3-tests]'")
moto = pytest.importorskip("moto.server", reason="pip install 'hoarfrost[s3-tests]'")

URL = "s3://bucket/project/caches"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """With one empty bucket."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    running = moto.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    # What one server held the next one of this process holds too.
    urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", data=b"").close()
    options = {"endpoint_url": f"http://{host}:{port}", "config_kwargs": {"retries": {"max_attempts": 1}}}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield running
    running.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow
def test_what_one_run_publishes_another_reads_and_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Any
) -> None:
    told: dict[str, Any] = {"policy": {0: "layer1", 2: "layer2"}, "chunks": 8, "window": 2}
    wanted = train(resnet(), images(N, PLAIN), mode="recompute", **told)
    first = train(resnet(), images(N, PLAIN), cache_dir=URL, local_dir=tmp_path / "one", **told)
    runs = count_prefix_runs(monkeypatch)
    second = train(resnet(), images(N, PLAIN), cache_dir=URL, local_dir=tmp_path / "other", **told)
    assert_same_run(first, wanted)
    assert_same_run(second, wanted)
    assert runs == []
    assert not [entry for entry in second.history if entry["event"] in ("heal", "fault")]
    found = RemoteCaches(URL).caches()
    assert [cache.state for cache in found] == ["ready", "ready"]
    assert RemoteCaches(URL).prune([found[0].key]) == [found[1].folder]
    assert [cache.key for cache in RemoteCaches(URL).caches()] == [found[0].key]


@pytest.mark.slow
def test_a_server_that_ends_ends_no_run(tmp_path: Path, server: Any) -> None:
    with frozen(CountingImages(N, PLAIN), views=1, cache_dir=URL, local_dir=tmp_path / "one") as one:
        written = epoch_of(one)
    data = CountingImages(N, PLAIN)
    with frozen(data, views=1, cache_dir=URL, local_dir=tmp_path / "other") as other:
        other.decide(store=True)
        before = data.reads
        server.stop()
        with pytest.warns(UserWarning, match="computes what cannot be fetched"):
            assert same(epoch_of(other), written)
        assert data.reads > before


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_not_made(tmp_path: Path, server: Any) -> None:
    with (
        pytest.warns(UserWarning, match="goes on without publishing a cache: .*bucket does not exist"),
        frozen(images(N, PLAIN), views=1, cache_dir="s3://bukcet/caches", local_dir=tmp_path / "one") as one,
    ):
        epoch_of(one)
    assert s3fs.S3FileSystem().ls("") == ["bucket"]
