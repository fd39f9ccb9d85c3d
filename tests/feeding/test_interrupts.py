"""Ctrl-C, errors of the loop, iterators left half read, forks: the next call works, and nothing stays locked."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hoarfrost import Freezer
from hoarfrost.cache import CacheWriter
from hoarfrost.cuts import Prefix, Suffix
from hoarfrost.errors import ArgumentError
from hoarfrost.feeding.front_guard import FrontGuard
from hoarfrost.samples import Samples
from shared.freezers import epoch_of, freezer_of, frozen, record, same
from shared.grids import grid
from shared.images import PLAIN, images
from shared.nets import resnet
from shared.runs import Trace, assert_same_run, sgd, train_epoch

N = 150


def readers() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("hoarfrost")}


def run(cache: Path, interrupted: Callable[[Callable[[], None]], None]) -> Trace:
    """A loop in whose first `end_epoch`, and in the epoch behind it, `interrupted` calls what it is given."""
    model = resnet()
    optimizer, trace = sgd(model), Trace([], [], {}, [])
    data, how = images(N, PLAIN), {"policy": {1: "layer1", 2: "layer2"}, "ladder": "exact", "mode": "cache", "views": 1}
    with Freezer(model, data, batch_size=50, epochs=3, optimizer=optimizer, cache_dir=cache, **how) as freezer:
        torch.manual_seed(7)

        def ends(metrics: Any) -> None:
            Freezer.end_epoch(freezer, metrics)
            freezer.decide(store=True)

        freezer.end_epoch = lambda metrics=None: interrupted(lambda: ends(metrics))  # type: ignore[method-assign]
        for epoch in range(3):
            train_epoch(freezer, optimizer, epoch, trace)
        trace.history = list(freezer.history)
    trace.weights = {name: value.clone() for name, value in model.state_dict().items()}
    return trace


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return run(tmp_path_factory.mktemp("cache"), lambda end: end())


PLACES: dict[str, tuple[Any, str]] = {
    "the prefix runs": (Prefix, "forward"),
    "the suffix runs": (Suffix, "forward"),
    "a chunk is written": (CacheWriter, "append"),
    "a cache is committed": (CacheWriter, "commit"),
    "images are rendered": (Samples, "_rendered"),
    "the front is looked at": (FrontGuard, "__init__"),
}


@grid(place=PLACES.keys(), time=[1, 2, 5])
def test_a_freeze_that_is_interrupted_is_done_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Trace, place: str, time: int
) -> None:
    owner, name = PLACES[place]
    real, calls, kept, on = getattr(owner, name), [0], [], [False]

    def struck(*args: Any, **keywords: Any) -> Any:
        calls[0] += on[0]
        if on[0] and calls[0] == time:
            raise KeyboardInterrupt
        return real(*args, **keywords)

    def end(ends: Callable[[], None]) -> None:
        on[0] = True
        try:
            ends()
        except KeyboardInterrupt as error:
            kept.append(error)  # as a notebook does, with all that its frames hold
        on[0] = False

    monkeypatch.setattr(owner, name, struck)
    found = run(tmp_path, end)
    assert_same_run(found, undisturbed)
    assert found.choices[-2:] == ["cache", "cache"]
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(("building", "discard"))]
    assert not readers()


def test_an_iterator_that_is_left_half_read_ends_its_threads_and_hinders_no_other(tmp_path: Path) -> None:
    with frozen(window=1, cache_dir=tmp_path) as freezer:
        wanted = epoch_of(freezer)
        for _ in freezer.batches(0):
            break
        assert not readers()
        kept = freezer.batches(0)
        next(kept)
        assert same(epoch_of(freezer), wanted)
        with pytest.raises(ArgumentError, match="epoch 0 was begun while this one was on"):
            next(kept)
        broken = freezer.batches(0)
        next(broken)
        with pytest.raises(ZeroDivisionError):
            broken.throw(ZeroDivisionError)  # type: ignore[attr-defined]
        assert same(epoch_of(freezer), wanted)
        assert not readers()


@pytest.mark.parametrize("left", ["dropped", "kept"])
def test_an_evaluation_that_is_left_half_read_hinders_no_other(tmp_path: Path, left: str) -> None:
    with frozen(policy={0: "layer1"}, cache_dir=tmp_path) as freezer:
        evaluation = freezer.evaluation(images(60), PLAIN, batch_size=20, codec="exact")
        iter(freezer.batches(0)).__next__()
        first = iter(evaluation)
        begun = [next(first)]
        if left == "dropped":
            first.close()  # type: ignore[attr-defined]
        wanted = [*evaluation]
        assert evaluation.nbytes > 0
        if left == "kept":
            begun += [*first]
        assert same(begun, wanted[: len(begun)])
        assert same([*evaluation], wanted)


def forked(work: Callable[[], bool]) -> int:
    """What a forked process came to; a negative number where it had to be killed."""
    child = os.fork()
    if child == 0:
        os._exit(0 if work() else 1)
    for _ in range(300):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def test_a_process_that_is_forked_within_an_epoch_reads_on_and_leaves_the_cache() -> None:
    with frozen(images(500, PLAIN), window=1) as freezer:
        wanted = epoch_of(freezer)
        batches = freezer.batches(0)
        found = [next(batches)]
        where = freezer.cache.path if freezer.cache is not None else Path()

        def read_on() -> bool:
            rest = same([*found, *batches], wanted)
            freezer.close()
            return rest

        assert forked(read_on) == 0
        assert where.exists()
        assert same([*found, *batches], wanted)


def test_workers_that_are_forked_within_an_epoch_end() -> None:
    with frozen(images(500, PLAIN), window=1) as freezer:
        wanted = epoch_of(freezer)
        batches = freezer.batches(0)
        found = [next(batches)]
        loader = torch.utils.data.DataLoader(images(20, PLAIN), num_workers=2, multiprocessing_context="fork")
        assert len([*loader]) == 20
        assert same([*found, *batches], wanted)


def test_the_temporary_directory_of_a_process_that_was_killed_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    child = os.fork()
    if child == 0:
        frozen()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.glob("hoarfrost-*")
    with frozen() as one, frozen() as other:
        assert not left.exists()
        assert len([*tmp_path.glob("hoarfrost-*")]) == 2
        assert len(epoch_of(one)) == len(epoch_of(other)) == 3
    assert [*tmp_path.glob("hoarfrost-*")] == []


def test_an_estimate_of_statistics_that_is_broken_off_leaves_them_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    model = resnet()
    with freezer_of(model) as freezer:
        [*freezer.batches(0)]
        before = {name: value.clone() for name, value in model.state_dict().items()}

        def struck(*_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

        monkeypatch.setattr(Prefix, "forward", struck)
        with pytest.raises(KeyboardInterrupt):
            freezer.end_epoch()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        monkeypatch.undo()
        assert len([*freezer.batches(1)]) == 3
        assert record(freezer)["choice"] == "cache"
