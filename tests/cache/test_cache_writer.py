from __future__ import annotations

import errno
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cache_cases import FINGERPRINT, OTHER, assert_equal, disk, fill, make_ragged, make_spec, memory, places, row

from hoarfrost.cache import Cache, CacheSpec, MemoryCache
from hoarfrost.codecs import Exact, Half, Linear
from hoarfrost.errors import (
    ArgumentError,
    BudgetError,
    CacheBusyError,
    CacheDirectoryError,
    CodecError,
    NonFiniteError,
)

SPECS = {
    "one view": make_spec(view_channels=(None,)),
    "two views": make_spec(),
    "channels_last": make_spec(channels_last=True),
    "half": make_spec(dtype=torch.float16, codec=Exact()),
    "bfloat16": make_spec(dtype=torch.bfloat16, codec=Linear(6)),
    "one chunk": make_spec(samples=3),
    "tokens": CacheSpec(6, 4, (7, 6), torch.float32, 2, False, Half(), (None, (1, 4))),
    "vectors": make_spec(shape=(9,), view_channels=(None,)),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_cache_reads_as_its_twin_in_memory(spec: CacheSpec, tmp_path: Path) -> None:
    assert_equal(disk(tmp_path, spec), memory(spec))
    assert_equal(Cache.open(tmp_path, FINGERPRINT), memory(spec))


@pytest.mark.parametrize("codec", [Exact(), Linear(4)], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_what_is_read_is_what_decoding_gives(codec: Any, channels_last: bool, tmp_path: Path) -> None:
    spec = make_spec(codec=codec, channels_last=channels_last)
    cache = disk(tmp_path, spec)
    for chunk, view in places(spec):
        _, _, ids, targets, features = row(spec, chunk, view)
        read = cache.read(chunk, view)
        assert read.sample_ids.tolist() == ids
        assert torch.equal(read.targets, targets)
        expected = codec.decode(codec.encode(features), features.shape, features.dtype)
        assert torch.equal(read.features(), expected)
        if channels_last:
            assert read.features().is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "targets",
    [
        torch.arange(10),
        torch.rand(10, 3, 2),
        torch.rand(10, 1) > 0.5,
        torch.rand(10, 4, dtype=torch.float16),
        torch.arange(10, dtype=torch.uint8),
    ],
    ids=lambda t: f"{t.dtype}{list(t.shape)}",
)
def test_targets_of_any_numeric_form(targets: torch.Tensor, tmp_path: Path) -> None:
    spec = make_spec()
    with Cache.create(tmp_path, FINGERPRINT, spec) as writer:
        for chunk, view in places(spec):
            _, _, ids, _, features = row(spec, chunk, view)
            writer.append(chunk, view, ids, targets[chunk * 4 : chunk * 4 + 4], features)
        cache = writer.commit()
    read = torch.cat([cache.read(chunk, 0).targets for chunk in range(spec.chunks)])
    assert read.dtype == targets.dtype
    assert torch.equal(read, targets)


def test_nothing_is_visible_before_commit(tmp_path: Path) -> None:
    spec = make_spec()
    writer = Cache.create(tmp_path, FINGERPRINT, spec)
    for place in places(spec):
        writer.append(*row(spec, *place))
        with pytest.raises(CacheDirectoryError, match="no committed cache"):
            Cache.open(tmp_path, FINGERPRINT)
    writer.commit()
    assert Cache.open(tmp_path, FINGERPRINT).verify() == []
    assert sorted(p.name for p in (tmp_path / FINGERPRINT.key).iterdir()) == [
        "features.bin",
        "journal.jsonl",
        "manifest.json",
        "targets.bin",
    ]


def test_commit_says_what_is_missing(tmp_path: Path) -> None:
    with Cache.create(tmp_path, FINGERPRINT, make_spec()) as writer:
        writer.append(*row(writer.spec, 0, 0))
        with pytest.raises(ArgumentError, match="5 of 6 records are missing, the first is chunk 0, view 1"):
            writer.commit()
        assert writer.done == {(0, 0)}


def test_a_build_that_was_left_is_resumed(tmp_path: Path) -> None:
    spec = make_spec()
    with Cache.create(tmp_path, FINGERPRINT, spec) as writer:
        for place in places(spec)[:3]:
            writer.append(*row(spec, *place))
    again = Cache.create(tmp_path, FINGERPRINT, spec)
    assert again.done == set(places(spec)[:3])
    assert_equal(fill(again), memory(spec))


def test_only_what_verifies_is_resumed(tmp_path: Path) -> None:
    spec = make_spec()
    with Cache.create(tmp_path, FINGERPRINT, spec) as writer:
        for place in places(spec)[:4]:
            writer.append(*row(spec, *place))
        path = writer.path
    data = bytearray((path / "features.bin").read_bytes())
    data[11] ^= 1
    (path / "features.bin").write_bytes(data[:-1])
    with (path / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"chunk":2,"view":0,"off')
    again = Cache.create(tmp_path, FINGERPRINT, spec)
    assert again.done == set(places(spec)[1:3])
    assert_equal(fill(again), memory(spec))


@pytest.mark.parametrize("change", ["spec", "fingerprint"])
def test_a_build_of_something_else_is_discarded(change: str, tmp_path: Path) -> None:
    with Cache.create(tmp_path, FINGERPRINT, make_spec()) as writer:
        writer.append(*row(writer.spec, 0, 0))
        path = writer.path
    if change == "spec":
        again = Cache.create(tmp_path, FINGERPRINT, make_spec(codec=Linear(8)))
        assert (path / "features.bin").stat().st_size == 8
    else:
        again = Cache.create(tmp_path, OTHER, make_spec())
        assert not path.exists()
    assert again.done == set()
    again.abort()


def test_what_is_not_ours_is_never_touched(tmp_path: Path) -> None:
    committed = disk(tmp_path, fingerprint=OTHER)
    mine = tmp_path / "building-holiday-photos"
    mine.mkdir()
    (mine / "photo.jpg").write_bytes(b"photo")
    same_name = tmp_path / f"building-{'0' * 16}"
    same_name.mkdir()
    (same_name / "photo.jpg").write_bytes(b"photo")
    disk(tmp_path)
    assert (mine / "photo.jpg").exists()
    assert (same_name / "photo.jpg").exists()
    assert committed.verify() == []
    ours = tmp_path / f"building-{FINGERPRINT.key}"
    ours.mkdir()
    (ours / "photo.jpg").write_bytes(b"photo")
    with pytest.raises(CacheDirectoryError, match=r"holds 'photo.jpg', which is none of a cache's files"):
        Cache.create(tmp_path, FINGERPRINT, make_spec())


def test_a_new_build_replaces_the_old_cache_only_when_it_is_committed(tmp_path: Path) -> None:
    old = disk(tmp_path)
    spec = make_spec(codec=Linear(8))
    writer = Cache.create(tmp_path, FINGERPRINT, spec)
    writer.append(*row(spec, 0, 0))
    assert old.verify() == []
    assert_equal(fill(writer), memory(spec))
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [FINGERPRINT.key]


def test_abort_removes_the_build(tmp_path: Path) -> None:
    writer = Cache.create(tmp_path, FINGERPRINT, make_spec())
    writer.append(*row(writer.spec, 0, 0))
    writer.abort()
    writer.abort()
    assert [p for p in tmp_path.iterdir() if p.is_dir()] == []
    with pytest.raises(ArgumentError, match="the writer is closed"):
        writer.append(*row(writer.spec, 0, 1))


def test_a_second_writer_is_told_who_is_writing(tmp_path: Path) -> None:
    writer = Cache.create(tmp_path, FINGERPRINT, make_spec())
    with pytest.raises(CacheBusyError, match=f"process {os.getpid()} is writing to the cache .* in {tmp_path}"):
        Cache.create(tmp_path, FINGERPRINT, make_spec())
    Cache.create(tmp_path, OTHER, make_spec()).abort()
    assert writer.path.exists()
    writer.abort()
    Cache.create(tmp_path, FINGERPRINT, make_spec()).abort()


@pytest.mark.parametrize("kind", [Cache, MemoryCache], ids=["disk", "memory"])
def test_arguments_that_do_not_fit_are_named(kind: Any, tmp_path: Path) -> None:
    spec = make_spec()
    writer = kind.create(tmp_path, FINGERPRINT, spec)
    chunk, view, ids, targets, features = row(spec, 0, 0)
    for arguments, text in [
        ((3, 0, ids, targets, features), "there is no chunk 3: the cache has 3"),
        ((0, 2, ids, targets, features), "there is no view 2: the cache has 2"),
        ((2, 0, ids, targets, features), "chunk 2 takes 2 integer sample ids, not 4"),
        ((0, 0, [0.5, 1, 2, 3], targets, features), "integer sample ids"),
        ((0, 0, ids, targets[:3], features), r"targets of 4 rows, not of shape \(3,\)"),
        ((0, 0, ids, targets.tolist(), features), "targets are a tensor"),
        ((0, 0, ids, targets, features[:, :2]), r"takes features of shape \(4, 3, 5, 5\), torch.float32, not"),
        ((0, 1, ids, targets, features), r"view 1 takes features of shape \(4, 2, 5, 5\)"),
        ((0, 0, ids, targets, features.double()), "not .* torch.float64"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            writer.append(*arguments)
    assert writer.append(chunk, view, ids, targets, features) > 0
    for arguments, text in [
        ((0, 0, ids, targets, features), "chunk 0, view 0 is written already"),
        ((0, 1, ids[::-1], targets, features[:, :2]), "chunk 0 has other sample ids"),
        ((0, 1, ids, targets + 1, features[:, :2]), "chunk 0 has other .*targets under view 0"),
        ((1, 0, ids, targets.float(), features), "targets of chunk 1 are float32 .* but those before were int64"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            writer.append(*arguments)
    assert writer.done == {(0, 0)}
    writer.abort()


@pytest.mark.parametrize("kind", [Cache, MemoryCache], ids=["disk", "memory"])
def test_lengths_that_do_not_fit_are_named(kind: Any, tmp_path: Path) -> None:
    spec = make_ragged()
    writer = kind.create(tmp_path, FINGERPRINT, spec)
    chunk, view, ids, targets, features, lengths = row(spec, 0, 0)
    for wrong, text in [
        (None, "chunk 0 takes 4 lengths from 0 on, not 0"),
        (lengths[:3], "chunk 0 takes 4 lengths from 0 on, not 3"),
        ([-1, *lengths[1:]], "lengths from 0 on"),
        ([lengths[0] + 1, *lengths[1:]], rf"takes features of shape \({len(features) + 1}, 3\)"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            writer.append(chunk, view, ids, targets, features, wrong)
    writer.append(chunk, view, ids, targets, features, lengths)
    moved = [lengths[1], lengths[0], *lengths[2:]]
    with pytest.raises(ArgumentError, match=r"chunk 0 has other .*lengths"):
        writer.append(0, 1, ids, targets, features[:, :2], moved)
    with pytest.raises(ArgumentError, match="takes no lengths: all samples have the shape"):
        kind.create(tmp_path / "other", OTHER, make_spec()).append(*row(make_spec(), 0, 0), lengths)
    writer.abort()


@pytest.mark.parametrize("kind", [Cache, MemoryCache], ids=["disk", "memory"])
def test_non_finite_entries_are_named_by_their_sample(kind: Any, tmp_path: Path) -> None:
    spec = make_ragged()
    writer = kind.create(tmp_path, FINGERPRINT, spec)
    chunk, view, ids, targets, features, lengths = row(spec, 0, 0)
    assert lengths[:2] == [3, 4]
    features[3, 1] = float("inf")
    with pytest.raises(NonFiniteError, match=rf"sample {ids[1]} \(row 1 of chunk 0, view 0\), channel 1 holds inf"):
        writer.append(chunk, view, ids, targets, features, lengths)
    writer.abort()


def test_lengths_that_are_not_the_sum_that_the_spec_says_are_not_committed(tmp_path: Path) -> None:
    spec = replace(make_ragged(), total_length=99)
    writer = Cache.create(tmp_path, FINGERPRINT, spec)
    for place in places(spec):
        writer.append(*row(spec, *place))
    with pytest.raises(ArgumentError, match="all samples together are 15 long, not 99"):
        writer.commit()
    writer.abort()


@pytest.mark.parametrize("kind", [Cache, MemoryCache], ids=["disk", "memory"])
def test_non_finite_features_are_named_by_sample_and_channel(kind: Any, tmp_path: Path) -> None:
    spec = make_spec()
    writer = kind.create(tmp_path, FINGERPRINT, spec)
    chunk, view, ids, targets, features = row(spec, 1, 1)
    features[2, 1, 0, 0] = float("nan")
    # View 1 stores the channels 2 and 0: its second is the features' channel 0.
    with pytest.raises(NonFiniteError, match=rf"sample {ids[2]} \(row 2 of chunk 1, view 1\), channel 0 holds nan"):
        writer.append(chunk, view, ids, targets, features)
    assert writer.done == set()
    writer.abort()


def test_what_a_codec_refuses_is_named_by_record(tmp_path: Path) -> None:
    spec = make_spec(codec=Half())
    with Cache.create(tmp_path, FINGERPRINT, spec) as writer:
        chunk, view, ids, targets, features = row(spec, 0, 0)
        with pytest.raises(CodecError, match=r"chunk 0, view 0: channel 0 holds .* torch.float16 cannot"):
            writer.append(chunk, view, ids, targets, features * 1e6)


def test_many_threads_may_append(tmp_path: Path) -> None:
    spec = make_spec(samples=64)
    writer = Cache.create(tmp_path, FINGERPRINT, spec)
    todo = places(spec)[::-1]

    def work(part: list[tuple[int, int]]) -> None:
        for place in part:
            writer.append(*row(spec, *place))

    threads = [threading.Thread(target=work, args=(todo[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_equal(writer.commit(), memory(spec))


def test_the_budget_holds_for_all_that_is_on_disk(tmp_path: Path) -> None:
    whole = disk(tmp_path / "whole").nbytes
    cache = fill(Cache.create(tmp_path / "a", FINGERPRINT, make_spec(), budget_bytes=whole + 600))
    assert cache.nbytes <= whole + 600
    with Cache.create(tmp_path / "b", FINGERPRINT, make_spec(), budget_bytes=whole - 300) as writer:
        with pytest.raises(BudgetError) as raised:
            fill(writer)
        done = writer.done
    text = str(raised.value)
    assert f"of the budget of {whole - 300:,} bytes" in text
    assert "the whole cache needs about" in text
    assert "of 10 samples" in text
    assert sum(p.stat().st_size for p in (tmp_path / "b").rglob("*") if p.is_file()) <= whole - 300
    assert [p.name for p in (tmp_path / "b").iterdir() if p.is_dir()] == [f"building-{FINGERPRINT.key}"]
    again = Cache.create(tmp_path / "b", FINGERPRINT, make_spec())
    assert again.done == done
    assert_equal(fill(again), memory())


def test_a_budget_is_positive(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="budget_bytes must be positive, not 0"):
        Cache.create(tmp_path, FINGERPRINT, make_spec(), budget_bytes=0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=["disk full", "quota"])
@pytest.mark.parametrize("failing", [0, 1, 2], ids=["features", "targets", "journal"])
def test_a_full_disk_loses_nothing(code: int, failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec()
    writer = Cache.create(tmp_path, FINGERPRINT, spec)
    writer.append(*row(spec, 0, 0))
    calls = 0
    honest = os.pwrite

    def full(fd: int, data: Any, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == failing + 1:
            # Half of it still went to disk, as it does.
            honest(fd, bytes(data)[: len(data) // 2], offset)
            raise OSError(code, os.strerror(code))
        return honest(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(
            BudgetError, match=r"writing chunk 0, view 1 in .* needs [\d,]+ bytes, but [\d,]+ bytes are"
        ):
            writer.append(*row(spec, 0, 1))
    assert writer.done == {(0, 0)}
    assert_equal(fill(writer), memory(spec))


def test_a_full_disk_at_commit_leaves_a_build_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec()
    writer = Cache.create(tmp_path, FINGERPRINT, spec)
    for place in places(spec):
        writer.append(*row(spec, *place))

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BudgetError, match=r"committing in .* needs space"):
            writer.commit()
    with pytest.raises(CacheDirectoryError, match="no committed cache"):
        Cache.open(tmp_path)
    writer.close()
    again = Cache.create(tmp_path, FINGERPRINT, spec)
    assert again.done == spec.records
    assert_equal(again.commit(), memory(spec))


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        with pytest.raises(CacheDirectoryError, match=r"making the directory failed in the cache directory .*file"):
            Cache.create(tmp_path / place, FINGERPRINT, make_spec())


def test_a_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(CacheDirectoryError, match=r"making the directory failed .*Read-only file system"):
            Cache.create(tmp_path / "new", FINGERPRINT, make_spec())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(CacheDirectoryError, match=r"beginning the build failed .*Read-only file system"):
            Cache.create(tmp_path, FINGERPRINT, make_spec())
    disk(tmp_path)


def test_a_directory_that_vanishes_while_it_is_written(tmp_path: Path) -> None:
    writer = Cache.create(tmp_path / "a", FINGERPRINT, make_spec())
    writer.append(*row(writer.spec, 0, 0))
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(CacheDirectoryError, match="has vanished while it was being built"):
        writer.append(*row(writer.spec, 0, 1))
    writer.abort()
