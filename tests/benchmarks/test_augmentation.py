"""The study of augmentation runs through on a few images, with every kind of arm, and its results are shown."""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from shared.scripts import BENCHMARKS, run

sys.path.insert(0, str(BENCHMARKS))

from augment_study.arms import ARMS, RandomChannels
from augment_study.results import best, pictures, ratios, record_of, table
from augment_study.runner import Plan, Study

PLAN = Plan(samples=80, tests=40, epochs=3, freeze=1, batch_size=16)


@pytest.mark.long
def test_every_arm_continues_the_same_training() -> None:
    study = Study("fashion", "resnet", 0, PLAN)
    before = copy.deepcopy((study._model.state_dict(), study._optimizer.state_dict()["state"]))
    groups = {arm.group: arm.name for arm in ARMS.values()}
    names = {*groups.values(), "full training", "conventional freezing, live augmentation", "Hoarfrost's default"}
    names |= {"feature space alone, random base", "1 view, whole", "4 views, whole", "2 views, 25% at random"}
    names |= {"2 views, 25% by harm", "2 views, the second as differences"}
    records = [study.run(ARMS[name]) for name in ARMS if name in names]
    assert all(torch.equal(value, before[0][name]) for name, value in study._model.state_dict().items())
    momentum = study._optimizer.state_dict()["state"]
    assert all(torch.equal(momentum[n]["momentum_buffer"], before[1][n]["momentum_buffer"]) for n in momentum)
    by_name = {record["arm"]: record for record in records}
    assert all(0 <= record["accuracy"] <= 1 and record["seconds"] > 0 for record in records)
    assert by_name["full training"]["cache_bytes"] == 0
    assert by_name["4 views, whole"]["cache_bytes"] > 1.7 * by_name["1 view, whole"]["cache_bytes"]
    assert len(by_name["2 views, 25% at random"]["stored_channels"]) == 6
    again = study.run(ARMS["1 view, whole"])
    assert again["augmented_accuracy"] == by_name["1 view, whole"]["augmented_accuracy"]
    record = record_of(records, PLAN.config, "")
    written = table(json.loads(json.dumps(record)), "fashion", "resnet")
    assert all(name in written for name in names)
    ((where, picture),) = pictures(record)
    assert where == "fashion-resnet"
    assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
    used, defined = set(re.findall(r"var\((--[\w-]+)\)", picture)), set(re.findall(r"(--[\w-]+):", picture))
    assert used <= defined


def test_only_what_nothing_beats_at_as_few_bytes_is_on_the_front() -> None:
    points = [("few", 1.0, 80.0), ("worse", 1.5, 79.0), ("more", 2.0, 82.0), ("dear", 3.0, 82.0)]
    assert [name for name, _, _ in best(points)] == ["few", "more"]


def test_passes_of_the_front_are_counted() -> None:
    passes = {name: arm.passes(12, stored=4) for name, arm in ARMS.items()}
    assert passes["conventional freezing, live augmentation"] == passes["full training"] == 12
    assert passes["Hoarfrost's default"] == 4
    assert passes["2 views, 25% by harm"] == 2
    assert passes["1 view, drawn anew every 1 epoch"] == 12
    assert passes["2 views, drawn anew every 10 epochs"] == pytest.approx(2 + 10 * 0.2)
    assert not ARMS["1 view, drawn anew every 1 epoch"].once
    assert ARMS["Hoarfrost's default"].once
    assert not ARMS["conventional freezing, live augmentation"].once


def test_bytes_are_measured_by_one_yardstick() -> None:
    base = {"seed": 0, "arm": "1 view, whole", "cache_bytes": 100}
    coarse = {"seed": 0, "arm": "2 views, whole, 2 bits", "cache_bytes": 120}
    assert ratios([coarse], [base, coarse]) == [1.2]
    assert ratios([{**coarse, "cache_bytes": 0}], [base]) == []


def test_random_channels_are_as_many_and_do_not_look_at_the_sensitivity() -> None:
    chosen = [RandomChannels(share=0.25).choose(s) for s in (torch.arange(40.0), torch.arange(40.0).flip(0))]
    assert chosen[0].tolist() == chosen[1].tolist()
    assert len(chosen[0]) == 10


@pytest.mark.long
def test_the_script_goes_on_where_it_stopped(tmp_path: Path) -> None:
    out, record = tmp_path / "records.jsonl", tmp_path / "record.json"
    options = ["--data", "fashion", "--model", "vit", "--seeds", "1", "--out", str(out)]
    options += ["--record", str(record), "--pictures", str(tmp_path)]
    options += [f"--{name.replace('_', '-')}={value}" for name, value in PLAN.config.items()]
    arms = ["--arm", "conventional freezing, live augmentation", "--arm", "Hoarfrost's default"]
    for _ in range(2):
        run("augmentation.py", *options, *arms)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["arm"] for record in records] == [arms[1], arms[3]]
    assert "**Hoarfrost's default**" in table(json.loads(record.read_text()), "fashion", "vit")


def test_photos_are_told_apart_by_parts_that_do_not_overlap() -> None:
    pytest.importorskip("skimage")
    study = Study("photos", "resnet", 0, Plan(samples=26, tests=26, epochs=2, freeze=1, batch_size=13))
    assert study.data.classes == 13
    assert study.run(ARMS["Hoarfrost's default"])["cache_bytes"] > 0
