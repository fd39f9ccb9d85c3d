"""Options that are made from what a run is told."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hoarfrost.cli import app
from hoarfrost.cli.options import as_told, parse_points
from hoarfrost.cli.plan import plan
from hoarfrost.cli.sensitivity import sensitivity
from hoarfrost.cli.train import train
from hoarfrost.errors import ArgumentError
from hoarfrost.running import RunConfig
from hoarfrost.settings import METHODS, fields_of, to_flat


def test_train_takes_all_that_a_run_is_told() -> None:
    shown = {name for name, field in fields_of(RunConfig).items() if "option" in field.metadata}
    assert set(inspect.signature(train).parameters) == shown | {"config", "resume"}
    loops = {"keep_frozen", "on_changed_front", "route"}
    assert set(fields_of(RunConfig)) - shown == {"max_tensors", "cuts", "memory_budget"} | loops


def test_what_is_left_out_of_train_is_not_told() -> None:
    parameters = inspect.signature(train).parameters
    assert {one.default for name, one in parameters.items() if name != "resume"} == {None}
    assert as_told(dict.fromkeys(parameters)) == {}


@pytest.mark.parametrize("command", [plan, sensitivity])
def test_other_commands_begin_with_the_defaults_of_a_run(command: object) -> None:
    own = {"samples", "cut", "metric", "share", "weights", "out", "as_json", "probe", "classes", "channels"}
    flat = to_flat(RunConfig())
    parameters = inspect.signature(command).parameters  # type: ignore[arg-type]
    of_method = (
        {"policy", *METHODS["paper"]} if command is plan else set()
    )  # a method may say it, where nobody else does
    found = {name: one.default for name, one in parameters.items() if name not in own | of_method}
    assert {parameters[name].default for name in of_method & set(parameters)} <= {None}
    assert found | {"data": "embedded"} == {name: flat[name] for name in found}


def test_an_option_overrides_no_more_than_itself() -> None:
    """A text that belongs to one command stays there."""
    helped = {
        name: " ".join(
            CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "150", "NO_COLOR": "1"}).output.split()
        )
        for name in ("train", "plan", "sensitivity")
    }
    assert "Of weights, orders and renditions; default: 0." in helped["train"]
    assert "Of fresh weights, images and renditions. [default: 0]" in helped["plan"]
    assert "schedule, stages or none; default: schedule." in helped["plan"]
    assert "with the training transform. [default: embedded]" in helped["sensitivity"]


def test_words_become_values() -> None:
    assert parse_points("5=layer1, 10=layer2") == {5: "layer1", 10: "layer2"}
    told = {"freeze": "1=layer1", "ladder": "8", "evaluation": "exact", "out": Path("x"), "device": None}
    assert as_told(told) == {"freeze": {1: "layer1"}, "ladder": 8, "evaluation": "exact", "out": Path("x")}
    with pytest.raises(ArgumentError, match="--freeze 'layer1' is no schedule; write 5=layer1,10=layer2"):
        as_told({"freeze": "layer1"})
