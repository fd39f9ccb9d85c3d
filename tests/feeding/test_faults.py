"""Whatever befalls a cache, at whatever moment, the run goes on with the same bits and says what happened."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hoarfrost import Freezer, Views
from hoarfrost.cache import CacheWriter
from shared.faults import FAULTS
from shared.images import PLAIN, RANDOM, images
from shared.nets import resnet
from shared.runs import Trace, assert_same_run, sgd

N, EPOCHS = 150, 4
MOMENTS = (
    "before the freeze",
    "in the build",
    "before an epoch",
    "within an epoch",
    "before end_epoch",
    "before state_dict",
    "before the deeper freeze",
    "before evaluating",
    "within an evaluation",
    "before close",
)
WAYS: dict[str, dict[str, Any]] = {
    "stored": {"views": 1, "transform": PLAIN},
    "drawn anew": {"views": Views(1, refresh_every=1), "transform": RANDOM},
    "recorded": {"views": Views(2, record="shown"), "transform": RANDOM},
}


def run(cache: Path, views: Any, transform: Any, strike: Callable[[str], None]) -> Trace:
    """A loop that trains, evaluates and asks for its state; `strike` is told of each moment."""
    model = resnet()
    optimizer, trace = sgd(model), Trace([], [], {}, [])
    freezer = Freezer(
        model,
        images(N, transform),
        batch_size=50,
        epochs=EPOCHS,
        optimizer=optimizer,
        policy={1: "layer1", 3: "layer2"},
        ladder="exact",
        mode="cache",
        window=1,
        views=views,
        cache_dir=cache,
    )
    evaluation = freezer.evaluation(images(60), PLAIN, batch_size=20, codec="exact")
    torch.manual_seed(7)
    for epoch in range(EPOCHS):
        strike(f"{epoch}: batches")
        model.train()
        for inputs, targets in freezer.batches(epoch):
            loss = nn.functional.cross_entropy(freezer(inputs), targets)
            loss.backward()
            trace.losses.append(loss.item())
            optimizer.step()
            optimizer.zero_grad()
            strike(f"{epoch}: step")
        strike(f"{epoch}: evaluate")
        model.eval()
        with torch.no_grad():
            for inputs, targets in evaluation:
                trace.losses.append(nn.functional.cross_entropy(freezer(inputs), targets).item())
                strike(f"{epoch}: evaluated")
        strike(f"{epoch}: end")
        freezer.end_epoch()
        strike(f"{epoch}: state")
        freezer.state_dict()
    strike("close")
    freezer.close()
    trace.history = list(freezer.history)
    trace.weights = {name: value.clone() for name, value in model.state_dict().items()}
    return trace


WHEN = {
    "before the freeze": "0: end",
    "before an epoch": "1: batches",
    "within an epoch": "1: step",
    "before end_epoch": "1: end",
    "before state_dict": "1: state",
    "before the deeper freeze": "2: end",
    "before evaluating": "2: evaluate",
    "within an evaluation": "1: evaluated",
    "before close": "close",
}


@functools.cache
def undisturbed(way: str, folder: Path) -> Trace:
    return run(folder / way, **WAYS[way], strike=lambda moment: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


QUICK = {
    ("stored", "in the build", "removed"),
    ("stored", "before the deeper freeze", "full"),
    ("stored", "before end_epoch", "removed"),
    ("stored", "within an epoch", "damaged"),
    ("stored", "before evaluating", "read-only"),
    ("stored", "before close", "another user's"),
    ("drawn anew", "before an epoch", "locked"),
    ("recorded", "within an epoch", "bad sectors"),
}
"""One of each kind; all of them together take minutes."""

OTHERWISE = ("within an epoch", "before an epoch", "before the deeper freeze")
"""When epochs write: the moments that are tried then."""


def cases() -> list[Any]:
    every = [
        (way, moment, fault)
        for way in WAYS
        for moment in (MOMENTS if way == "stored" else OTHERWISE)
        for fault in FAULTS
    ]
    return [pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow, id=", ".join(case)) for case in every]


@pytest.mark.parametrize(("way", "moment", "fault"), cases())
def test_the_run_goes_on_with_the_same_bits(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, way: str, moment: str, fault: str
) -> None:
    wanted, cache, struck = undisturbed(way, folder), tmp_path / "cache", ExitStack()
    pending = [moment]

    def strike(at: str) -> None:
        if pending and at == WHEN.get(pending[0]):
            pending.clear()
            struck.enter_context(FAULTS[fault](cache))

    if moment == "in the build":
        append = CacheWriter.append

        def appended(*args: Any, **keywords: Any) -> int:
            done = append(*args, **keywords)
            strike("appended")
            return done

        monkeypatch.setattr(CacheWriter, "append", appended)
        monkeypatch.setitem(WHEN, moment, "appended")
    with warnings.catch_warnings(record=True) as said, struck:
        warnings.simplefilter("always")
        found = run(cache, **WAYS[way], strike=strike)
    assert not pending
    # Where nothing can be built, epochs show renditions of their own: the same where none is random.
    if way == "stored" or found.choices == wanted.choices:
        assert_same_run(found, wanted)
    mine = [str(warning.message) for warning in said if str(warning.message).startswith("hoarfrost")]
    freezes = sum(record["event"] == "freeze" for record in found.history)
    assert max(map(mine.count, mine), default=0) <= freezes
