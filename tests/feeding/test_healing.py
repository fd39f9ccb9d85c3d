"""What is damaged or gone during a run is computed again, and the run stays the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from hoarfrost import Freezer, Selection, Views
from shared.freezers import N, epoch_of, frozen, record, same
from shared.images import RANDOM, images
from shared.nets import in_place, resnet
from shared.runs import Trace, assert_same_run, train


@pytest.fixture(scope="module", params=["exact", 4], ids=["exact", "4 bits"])
def undamaged(request: pytest.FixtureRequest) -> tuple[Trace, dict[str, Any]]:
    options: dict[str, Any] = {
        "policy": {1: "layer1"},
        "views": Views(2, Selection(share=0.5)),
        "ladder": request.param,
        "epochs": 4,
    }
    return train(in_place_resnet(), images(N, RANDOM), **options), options


def in_place_resnet() -> nn.Module:
    """With dropout behind the cut: healing must not draw from the training's random state."""
    model = resnet()
    model.get_submodule("pool").append(nn.Dropout(0.3))  # type: ignore[operator]
    return model


def test_a_chunk_that_is_damaged_during_the_run_is_healed(undamaged: tuple[Trace, dict[str, Any]]) -> None:
    wanted, options = undamaged

    def damage(freezer: Freezer, epoch: int) -> None:
        if epoch == 1:
            assert freezer.cache is not None
            path = freezer.cache.path / "features.bin"
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(data)

    healed = train(in_place_resnet(), images(N, RANDOM), after_epoch=damage, **options)
    assert_same_run(healed, wanted)
    heals = [entry for entry in healed.history if entry["event"] == "heal"]
    assert len(heals) == 1
    assert "checksum" in heals[0]["reason"]


def test_a_cache_directory_that_vanishes_during_the_run_is_built_again(
    undamaged: tuple[Trace, dict[str, Any]], tmp_path: Path
) -> None:
    wanted, options = undamaged

    def damage(freezer: Freezer, epoch: int) -> None:
        if epoch == 1:
            shutil.rmtree(tmp_path / "here")

    trace = train(in_place_resnet(), images(N, RANDOM), after_epoch=damage, cache_dir=tmp_path / "here", **options)
    assert_same_run(trace, wanted)
    assert trace.choices == ["cache", "cache"]


def test_a_cache_directory_that_vanishes_within_an_epoch_is_computed(tmp_path: Path) -> None:
    with frozen(images(500, RANDOM), window=1) as freezer:
        wanted = epoch_of(freezer, 1)
    with frozen(images(500, RANDOM), window=1, cache_dir=tmp_path / "here") as freezer:
        batches = freezer.batches(1)
        found = [next(batches)]
        shutil.rmtree(tmp_path / "here")
        found += [*batches]
        assert same(found, wanted)
        assert "has vanished" in record(freezer, "heal")["reason"]


def test_another_architecture_heals_too() -> None:
    with frozen(model=in_place(), policy={0: "features.2"}) as freezer:
        before = epoch_of(freezer)
        assert freezer.cache is not None
        (freezer.cache.path / "features.bin").write_bytes(b"")
        assert same(before, epoch_of(freezer))
