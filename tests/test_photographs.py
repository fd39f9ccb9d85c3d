"""Photographs of several sizes through a freezer: views derived from one another, cached and recomputed alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from hoarfrost import CutSensitivity, Selection, Views, examine_sensitivity
from hoarfrost.feeding.cache_source import CacheSource
from shared.freezers import epoch_of, frozen
from shared.grids import grid
from shared.pictures import SIDE, SIZES, Pictures, commuting, register_vit, swin, transform, write_folder
from shared.runs import assert_same_run, train

FLIP = v2.RandomHorizontalFlip()
FIXED = {
    "middle of the shorter side": [v2.Resize(40), v2.CenterCrop(SIDE), FLIP],
    "out of proportion": [v2.Resize((SIDE, SIDE)), FLIP, v2.RandomVerticalFlip()],
    "flipped raw": [FLIP, v2.Resize((SIDE, SIDE))],
}
MOVING = {
    "padded crops": [v2.Resize(SIDE), FLIP, v2.RandomCrop(SIDE, padding=4)],
    "resized crops": [v2.RandomResizedCrop(SIDE, (0.3, 1.0)), FLIP],
    "turned": [v2.Resize((SIDE, SIDE)), v2.RandomRotation(20)],
}


@pytest.mark.parametrize("steps", [*FIXED.values()][:2], ids=[*FIXED][:2])
def test_features_derived_of_photographs_train_to_the_bits_of_recomputed_ones(steps: list[Any]) -> None:
    """All are moved to fresh renditions in feature space, where these are exact: the law, derived."""
    asked: dict[str, Any] = {"transform": transform(*steps), "policy": {0: "0"}, "views": Views(1, derived=1.0)}
    data: Any = Pictures(60)
    cached, recomputed = (
        train(commuting(), data, batch_size=20, epochs=3, mode=mode, **asked) for mode in ("cache", "recompute")
    )
    assert cached.choices == ["cache"]
    assert_same_run(cached, recomputed)


DERIVED = {
    "derived": Views(2, Selection(share=0.0)),
    "differences": Views(2, Selection(share=0.5), residual=True),
    "moved": Views(1, derived=1.0),
}


@grid(steps=MOVING, views=DERIVED)
def test_a_cache_that_was_found_derives_the_same_and_reads_no_picture_for_it(
    steps: list[Any], views: Views, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"transform": transform(*steps), "policy": {0: "0"}, "views": views}
    built, found = (
        train(commuting(), Pictures(60), batch_size=20, epochs=3, cache_dir=tmp_path, **asked) for _ in range(2)
    )
    assert_same_run(built, found)
    data: Any = Pictures(60)
    with frozen(data, commuting(), batch_size=20, cache_dir=tmp_path, **asked) as freezer:
        next(iter(freezer.batches(0)))
        frames = freezer._data.samples.frames
        before = data.reads
        found_sizes = frames.of(range(60))
        assert data.reads == before
        wanted = frames.of_items([Pictures(60)[n] for n in range(60)])
        assert wanted is not None
        assert torch.equal(found_sizes, wanted[:, 0].long())


def test_of_images_of_one_size_nothing_more_is_written(tmp_path: Path) -> None:
    written = {}
    for name, sizes in {"one": [(36, 36)], "fixed": SIZES, "several": SIZES}.items():
        steps = [v2.Resize((SIDE, SIDE)), FLIP] if name == "fixed" else [v2.RandomResizedCrop(SIDE), FLIP]
        data: Any = Pictures(40, sizes)
        asked: dict[str, Any] = {"transform": transform(*steps), "cache_dir": tmp_path / name}
        with frozen(data, commuting(), policy={0: "0"}, **asked) as freezer:
            epoch_of(freezer)
            written[name] = b"".join(path.read_bytes() for path in (tmp_path / name).rglob("journal.jsonl"))
    assert {name: b'"frames"' in journal for name, journal in written.items()} == {
        "one": False,
        "fixed": False,
        "several": True,
    }


@pytest.mark.parametrize("steps", FIXED.values(), ids=FIXED)
def test_what_commutes_is_found_to_be_not_sensitive(steps: list[Any]) -> None:
    (found,) = examined(commuting(), steps, "0")
    assert found.sensitivity is not None
    assert float(found.sensitivity.max()) < 1e-5
    assert [len(stored.channels) for stored in found.further] == [1], "a view has something of its own"


MODELS: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    "cells": (commuting, "0", 6),
    "tokens behind a class token and registers": (register_vit, "blocks.0", 8),
    "channels last": (swin, "features.1", 8),
    "merged patches": (swin, "features.2", 16),
}


@grid(model=MODELS, steps=MOVING)
def test_every_kind_of_grid_is_measured_on_photographs(
    steps: list[Any], model: tuple[Callable[[], nn.Module], str, int]
) -> None:
    (found,) = examined(model[0](), steps, model[1])
    assert found.reason is None
    assert found.sensitivity is not None
    assert found.sensitivity.shape == (model[2],)
    assert bool(((found.sensitivity > 0) & found.sensitivity.isfinite()).all())


@pytest.mark.parametrize("model", [register_vit, swin])
def test_derived_views_of_photographs_are_shown(model: Callable[[], nn.Module]) -> None:
    cut = "blocks.0" if model is register_vit else "features.1"
    views, steps, data = Views(1, derived=1.0), transform(*MOVING["padded crops"]), Pictures(40)
    with frozen(data, model(), policy={0: cut}, views=views, transform=steps) as freezer:
        epoch_of(freezer)
        source, _ = freezer._feeder._sources[0]
        assert isinstance(source, CacheSource)
        assert freezer.cache is not None
        base, shown = freezer.cache.read(0, 0).features(), source.load(0, 1).features.dense()
        assert shown.shape == base.shape
        assert torch.equal(shown[:, :3], base[:, :3]) is (model is register_vit), "first tokens have no place"
        rest: Tensor = shown[:, 3:] != base[:, 3:]
        assert float(rest.flatten(1).any(1).double().mean()) > 0.5, "but for shifts of less than half a patch"


@pytest.mark.long
@pytest.mark.parametrize(("size", "step"), [(32, "RandomCrop"), (112, "RandomResizedCrop")], ids=["small", "photos"])
def test_the_commands_take_a_folder_of_photographs(size: int, step: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", 48)
    (tmp_path / "nets.py").write_text(NET)
    common = f"--model nets:small --data photos --image-size {size}"
    told = run(tmp_path, f"sensitivity {common} --cut 0 --samples 24")
    assert told.returncode == 0, told.stderr
    assert "nothing can be derived, since" not in told.stdout
    assert f"{step}: paired" in told.stdout
    assert "How far channels are from what can be derived" in told.stdout
    trained = run(tmp_path, f"train {common} --epochs 2 --batch-size 12 --freeze 0=0 --mode cache --views 2 --out out")
    assert trained.returncode == 0, trained.stderr
    records = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    (frozen_at,) = [record for record in records if record["event"] == "freeze"]
    assert len(frozen_at["sensitivity"]) == 6, "derived views were measured"


NET = """
from torch import nn

def small(num_classes, in_channels):
    front = nn.Sequential(nn.Conv2d(3, 6, 1), nn.MaxPool2d(4))
    return nn.Sequential(front, nn.Conv2d(6, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
"""


def run(folder: Path, words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    command = [sys.executable, "-m", "hoarfrost", *words.split()]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)


def examined(model: nn.Module, steps: list[Any], cut: str) -> list[CutSensitivity]:
    data: Any = Pictures(24)
    return examine_sensitivity(model, data, transform=transform(*steps), cuts=[cut], samples=24, shares=(0.0,))
