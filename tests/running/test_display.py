"""What a run shows, line by line, at the width of a terminal."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
from rich.console import Console

from hoarfrost.report import Table, print_table
from hoarfrost.running.display import RunDisplay

START = {
    "event": "start",
    "model": "resnet18",
    "data": "birds",
    "samples": 12_345,
    "epochs": 20,
    "policy": "Schedule({5: 'layer1'})",
    "cuts": ["layer1", "layer2"],
    "transform": ["RandomErasing: image-only", "ToTensor: deterministic"],
    "hardware": "a laptop",
    "config": {"out": "runs/resnet18-birds"},
}
EPOCH = {
    "event": "epoch",
    "epoch": 9,
    "depth": 1,
    "cut": "features.denseblock3.denselayer12",
    "source": "recompute",
    "loss": 12.3456,
    "accuracy": 1.0,
    "test_accuracy": 0.4567,
    "images_per_second": 123_456.7,
    "cache_bytes": 999_500_000,
    "saved_seconds": -3_723.0,
}


def shown(width: int, *records: dict[str, Any]) -> list[str]:
    stream = io.StringIO()
    with RunDisplay(Console(file=stream, width=width)) as display:
        for record in records:
            display.show(record)
    return [line.rstrip() for line in stream.getvalue().splitlines() if line.strip()]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_an_epoch_is_one_line(width: int) -> None:
    lines = shown(width, START, EPOCH)
    assert max(map(len, lines)) <= width
    head, row = lines[-2:]
    assert head.split() == ["epoch", "loss", "train", "test", "images/s", "frozen", "from", "stored", "saved"]
    for number in ("10/20", "12.346", "100.0 %", "45.7 %", "123,457", "recompute"):
        assert number in row


def test_names_are_cut_at_their_beginning_where_room_is_short() -> None:
    assert "…enselayer12" in shown(80, START, EPOCH)[-1]


def test_only_steps_that_matter_are_told() -> None:
    text = "\n".join(shown(100, START))
    assert "RandomErasing: image-only" in text
    assert "ToTensor" not in text
    assert "12,345 training images, 20 epochs, 2 cuts" in text


def test_what_a_policy_does_is_told_with_its_place() -> None:
    place = {"epoch": 4, "cut": "layer1", "policy": "Egeria()"}
    lines = shown(
        100,
        START,
        {"event": "decision", **place, "step": 0, "depth": 1, "why": "[b]ecause"},
        {"event": "thaw", **place, "step": 0, "before": 2, "depth": 0},
        {"event": "midway", **place, "step": 30, "depth": 2},
    )[-3:]
    assert lines == [
        "after 4 epochs: [b]ecause",
        "thawed after 4 epochs: Egeria()",
        "frozen up to layer1 behind step 30 of epoch 5: recomputed until the epoch ends",
    ]


@pytest.mark.parametrize(
    ("epoch", "when"), [(0, "before the first epoch"), (1, "after 1 epoch"), (2, "after 2 epochs")]
)
def test_a_freeze_is_told_by_the_epochs_number_as_it_was_typed(epoch: int, when: str) -> None:
    freeze = {"event": "freeze", "epoch": epoch, "cut": "layer1", "choice": "recompute", "decision": "recomputed"}
    assert shown(100, START, freeze)[-1] == f"frozen up to layer1 {when}: recomputed"


def test_warnings_of_hoarfrost_are_lines_of_the_display() -> None:
    stream = io.StringIO()
    with RunDisplay(Console(file=stream, width=80)), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("hoarfrost goes on by recomputing: no room", stacklevel=1)
    assert "hoarfrost goes on by recomputing: no room" in stream.getvalue()
    assert "UserWarning" not in stream.getvalue()


def test_a_table_without_rows_is_its_title_and_note() -> None:
    stream = io.StringIO()
    print_table(Console(file=stream, width=80), Table("nothing damaged", ["cache"], [], note="1 cache checked"))
    assert stream.getvalue().split("\n") == ["nothing damaged", "1 cache checked", ""]


def test_markup_in_names_is_text() -> None:
    stream = io.StringIO()
    print_table(Console(file=stream, width=80), Table("[bold]", ["a"], [["[red]x"]]))
    assert "[bold]" in stream.getvalue()
    assert "[red]x" in stream.getvalue()


WIDE_TABLE = Table(
    "training",
    ["training", "epochs", "accuracy", "seconds an epoch by depth", "FLOPs", "stored"],
    [["augmented in feature space only", "30", "80.2 %", "images 2.51, layer1 1.01", "1.23e+13", "12.5 MB, 3.5 MB"]],
    emphasis=0,
)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_table_that_is_too_wide_goes_on_below(width: int) -> None:
    stream = io.StringIO()
    print_table(Console(file=stream, width=width), WIDE_TABLE)
    lines = [line.strip() for line in stream.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    whole = [cell for cell in WIDE_TABLE.rows[0][1:] if any(cell in line for line in lines)]
    assert whole == list(WIDE_TABLE.rows[0][1:])
    heads = sum(line.startswith("training ") for line in lines)
    assert heads == {60: 3, 80: 2, 100: 2, 200: 1}[width]


def test_a_sentence_in_a_table_is_wrapped_at_its_blanks() -> None:
    stream = io.StringIO()
    table = Table("damaged", ["cache", "chunk", "damage"], [["dd1afb6c83c46973", "15", "so it goes " * 10]])
    print_table(Console(file=stream, width=80), table)
    lines = stream.getvalue().splitlines()
    assert sum("dd1afb6c83c46973     15  so it goes so it goes" in line for line in lines) == 1
    assert " ".join(" ".join(lines).split()).count("so it goes") == 10
    assert max(map(len, lines)) <= 80
