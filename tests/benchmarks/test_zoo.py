"""The zoo's script runs through on a few models, and its own checks see what is wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hoarfrost import find_cuts
from shared.scripts import BENCHMARKS, run

sys.path.insert(0, str(BENCHMARKS))

from zoo import law
from zoo.entry import Entry, images
from zoo.examine import Plan, examine
from zoo.freeze import SAMPLES, refusal
from zoo.page import page, summary


@pytest.mark.slow
def test_a_few_models_through_the_whole_script(tmp_path: Path) -> None:
    out, kept, written = tmp_path / "zoo.jsonl", tmp_path / "zoo.json", tmp_path / "zoo.md"
    options = ["--group", "user", "--group", "torchvision", "--cuts", "3", "--jobs", "2"]
    options += ["--only", "unet", "--only", "in_and_out_by_name", "--only", "squeezenet1_1"]
    options += ["--out", str(out), "--record", str(kept), "--page", str(written)]
    kept.write_text(json.dumps({"models": [older("unet", cuts=99), older("vgg11", group="torchvision")]}))
    printed = run("zoo.py", *options)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert {r["model"]: (r["status"], r["tested"]) for r in records} == dict.fromkeys(
        ("unet", "in_and_out_by_name", "squeezenet1_1"), ("done", 3)
    )
    assert all(r["tested_exact_in_eval"] == r["tested_exact_in_train"] == 3 for r in records)
    assert {r["model"]: r["tested_frozen"] + sum(f["check"] == "freezer" for f in r["failures"]) for r in records} == (
        dict.fromkeys(("unet", "in_and_out_by_name", "squeezenet1_1"), 3)
    )
    assert "user/unet: " in printed
    assert "| user | 2 | 2 | 2 |" in written.read_text()
    assert "`squeezenet1_1`" in written.read_text()
    models = {record["model"]: record for record in json.loads(kept.read_text())["models"]}
    assert list(models) == ["in_and_out_by_name", "unet", "squeezenet1_1", "vgg11"]
    assert (models["unet"]["cuts"], models["vgg11"]) == (records[0]["cuts"], older("vgg11", group="torchvision"))
    again = run("zoo.py", *options)
    assert "user/unet: " not in again
    assert out.read_text().count("\n") == 3


def older(name: str, group: str = "user", cuts: int = 3) -> dict[str, object]:
    """A record of an earlier run."""
    counts = {"cuts": cuts, "recommended": 1, "tested": 1, "tested_exact_in_eval": 1, "tested_exact_in_train": 1}
    said = {"group": group, "model": name, "status": "done", "failures": [], "find_seconds": 0.1, **counts}
    return {**said, "source": "earlier", "versions": {"torch": "2"}}


def test_the_page_is_that_of_the_record() -> None:
    root = BENCHMARKS.parent
    kept = json.loads((root / "benchmarks/results/zoo.json").read_text())["models"]
    assert (root / "docs/zoo.md").read_text() == page(kept)


class Noisy(nn.Module):
    """Differs from itself: it counts its calls in a list that a copy shares."""

    calls: list[int] = []  # noqa: RUF012 (shared by all copies is the point)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(1)
        return self.layers(x) + len(self.calls)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_law_sees_a_part_that_computes_otherwise(training: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    expected = law.whole(model, x, training=False)
    assert expected.difference(law.whole(model, x, training=False)) is None
    with torch.no_grad():
        model[2].bias[0] += 1e-6
    wrong = expected.difference(law.whole(model, x, training=training))
    assert wrong is not None
    assert wrong.startswith("output '' differs by up to")


def test_the_law_sees_a_gradient_that_stops_early() -> None:
    class Cutting(nn.Module):
        def __init__(self, cutting: bool) -> None:
            super().__init__()
            self.first, self.last, self.cutting = nn.Linear(3, 4), nn.Linear(4, 2), cutting

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(x.detach() if self.cutting else x)

    whole, cutting, x = Cutting(False), Cutting(True), torch.randn(5, 3)
    cutting.load_state_dict(whole.state_dict())
    wrong = law.whole(whole, x, training=True).difference(law.whole(cutting, x, training=True))
    assert wrong == "gradient 'first.weight' is None, not a tensor [4, 3]"


def test_a_model_that_differs_from_itself_is_said_to() -> None:
    records = []
    examine(Entry("user", "noisy", lambda: (Noisy(), images(2))), Plan(cuts=1), records.append)
    reasons = [failure["reason"] for failure in records[-1]["failures"] if failure["check"] != "freeze"]
    assert records[-1]["tested_exact_in_eval"] == 0
    assert reasons
    assert all(reason.startswith("the model differs from itself from run to run: ") for reason in reasons)


def test_a_forward_of_the_instances_own_is_there_while_the_model_is_divided() -> None:
    """Timm's FasterNet chooses one of two so; its calls are answered by another for that long."""
    layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
    layers[2].forward = torch.relu
    records = []
    examine(Entry("user", "own forward", lambda: (layers, images(2))), Plan(), records.append)
    assert records[-1]["failures"] == []


def test_a_model_that_is_frozen_at_each_of_its_cuts_counts_so() -> None:
    records = []
    layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
    examine(Entry("user", "layers", lambda: (layers, images(2))), Plan(), records.append)
    assert records[-1]["failures"] == []
    assert records[-1]["tested_frozen"] == records[-1]["tested"] == 2
    assert "| **all** | 1 | 1 | 0 | 1 (0) | 2 | 2 | 2 | 0 | 1 of 1 | 1 of 1 | 0 |" in summary(records[-1:])


def test_a_cut_that_is_offered_and_refused_at_the_freeze_is_told_from_one_that_is_refused_before() -> None:
    samples = images(2)
    cut = find_cuts(Noisy(), samples(4))[0]
    later, before = (refusal(Noisy(), c, samples(SAMPLES), 1) for c in (cut, replace(cut, name="nowhere")))
    assert later is not None
    assert before is not None
    assert (later[0], type(later[1]).__name__) == ("freeze", "InvalidCutError")
    assert (before[0], type(before[1]).__name__) == ("freezer", "UnknownCutError")
    records = []
    examine(Entry("user", "noisy", lambda: (Noisy(), samples)), Plan(cuts=1), records.append)
    assert records[-1]["tested_frozen"] == 0
    assert "| **all** | 1 | 1 | 0 | 1 (0) | 2 | 1 | 0 | 1 |" in summary(records[-1:])


def test_what_cannot_be_built_does_not_count() -> None:
    def build() -> tuple[nn.Module, object]:
        raise ImportError("it needs a package that is not here")

    records = []
    examine(Entry("user", "missing", build), Plan(), records.append)  # type: ignore[arg-type]
    assert records[-1]["status"] == "not built"
    assert records[-1]["reason"] == "ImportError: it needs a package that is not here"
    assert "| **all** | 0 | 0 | 0 |" in summary(records)
