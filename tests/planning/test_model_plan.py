"""`hoarfrost plan`, from names to tables."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from hoarfrost.cli import app
from hoarfrost.data import photo_like
from hoarfrost.errors import ArgumentError

QUICK = ["plan", "--probe", "32", "--batch-size", "16", "--epochs", "6", "--cut", "layer2"]


def test_it_tells_cuts_rungs_and_the_whole_training() -> None:
    done = CliRunner().invoke(app, [*QUICK, "--freeze", "2=layer2", "--mode", "cache"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert all(len(line) <= 80 for line in done.output.splitlines())
    for words in ("cifar_resnet, 10,000 images", "recompute", "layer2: rungs of the ladder", " levels", "in place of"):
        assert words in done.output


def test_data_that_are_elsewhere() -> None:
    sizes = ["--samples", "50000", "--image-size", "32", "--classes", "7"]
    done = CliRunner().invoke(app, [*QUICK, *sizes, "--freeze", "2=layer2", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["samples"], found["synthetic"], found["epochs"]) == (50_000, True, 6)
    assert [cut["cut"] for cut in found["cuts"]] == ["layer2"]
    assert found["cuts"][0]["dense_bytes_per_view"] == 50_000 * 4 * torch_size(found["cuts"][0]["features"])
    assert found["stages"][0]["choice"] == "images"


def torch_size(shape: list[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "embedded", "--samples", "100"], "give --data, or --samples"),
        (["--classes", "10"], "classes describe data that are not here: give --samples"),
        (["--freeze", "oops"], "is no schedule"),
    ],
    ids=["both", "classes alone", "freeze"],
)
def test_what_cannot_be_meant_is_refused(options: list[str], words: str) -> None:
    done = CliRunner().invoke(app, [*QUICK, *options])
    assert done.exit_code == 2
    assert words in done.output


@pytest.mark.parametrize("channels", [1, 3])
def test_stand_ins_have_the_spectrum_of_photographs(channels: int) -> None:
    import numpy as np

    data = photo_like(16, 64, channels=channels, classes=4, seed=1)
    assert len(data) == 16
    assert data[5][1] == 1
    grey = data.images.reshape(16, 64, 64, channels).mean(-1)
    power = (np.abs(np.fft.rfft2(grey - grey.mean((1, 2), keepdims=True))) ** 2).mean(0)[0]
    slope = np.polyfit(np.log(np.arange(2, 17)), np.log(power[2:17]), 1)[0]
    assert slope == pytest.approx(-2, abs=0.5)


def test_stand_ins_have_one_channel_or_three() -> None:
    with pytest.raises(ArgumentError, match="1 or 3 channels, not 2"):
        photo_like(4, 8, channels=2)
