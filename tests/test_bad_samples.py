"""Pictures that cannot be read: named, counted, left out or replaced; in a cache and without one alike."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from typer.testing import CliRunner

from hoarfrost import Freezer
from hoarfrost.cli import app
from hoarfrost.data import image_folder
from hoarfrost.errors import ArgumentError, DatasetError
from hoarfrost.samples import Samples
from shared.grids import grid
from shared.images import PLAIN, images
from shared.nets import resnet
from shared.runs import assert_same_run, train

N = 150
BAD = {7: OSError("image file is truncated"), 8: Image.DecompressionBombError("too many pixels"), 149: ValueError("no")}


class Damaged(Dataset[Any]):
    """A few of its samples cannot be read."""

    def __init__(self, bad: dict[int, Exception] | None = None) -> None:
        self._inner, self.bad = images(N, PLAIN), BAD if bad is None else bad
        self.paths = [f"folder/{number}.png" for number in range(N)]

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        if index in self.bad:
            raise self.bad[index]
        return self._inner[index]


class Replaced(Damaged):
    """In the place of each the next one that can be read."""

    def __getitem__(self, index: int) -> Any:
        while index % N in self.bad:
            index += 1
        return self._inner[index % N]


def freezer_of(then: str, data: Any = None, **options: Any) -> Freezer:
    how = {"batch_size": 50, "epochs": 4, "policy": {1: "layer1"}, "ladder": "exact", "views": 1, "mode": "cache"}
    return Freezer(resnet(), data or Damaged(), **{**how, "on_bad_sample": then, **options})


def told(freezer: Freezer) -> list[int]:
    return [record["sample"] for record in freezer.history if record["event"] == "bad_sample"]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_names_the_sample_and_its_file(workers: int) -> None:
    with freezer_of("error", Damaged({33: BAD[7]}), batch_size=20, workers=workers, policy="none") as freezer:
        words = r"sample 33 of Damaged \(folder/33\.png\) cannot be read: .*on_bad_sample=\"skip\" or \"replace\""
        with pytest.raises(DatasetError, match=words) as caught:
            [*freezer.batches(0)]
        assert "Traceback" not in str(caught.value)


@grid(then=["skip", "replace"], policy={"later": {1: "layer1"}, "at once": {0: "layer1"}})
@pytest.mark.filterwarnings("ignore")
def test_cached_and_recomputing_runs_are_the_same(tmp_path: Path, then: str, policy: Any) -> None:
    options = {"policy": policy, "on_bad_sample": then, "epochs": 3}
    cached = train(resnet(), Damaged(), cache_dir=tmp_path, **options)
    assert_same_run(cached, train(resnet(), Damaged(), mode="recompute", **options))
    assert_same_run(cached, train(resnet(), Damaged(), workers=2, **options))
    # The cache that stands tells what it lacks, though nobody reads a picture any more.
    assert_same_run(cached, train(resnet(), Damaged(), cache_dir=tmp_path, **options))
    assert sorted(record["sample"] for record in cached.history if record["event"] == "bad_sample") == sorted(BAD)


@pytest.mark.filterwarnings("ignore")
def test_replacing_is_training_on_the_next_that_can_be_read() -> None:
    assert_same_run(train(resnet(), Damaged(), on_bad_sample="replace"), train(resnet(), Replaced()))


@pytest.mark.filterwarnings("ignore")
def test_what_is_skipped_leaves_its_batch_in_every_source(tmp_path: Path) -> None:
    whole, counts = freezer_of("replace", Replaced()), []
    with freezer_of("skip", cache_dir=tmp_path) as freezer, whole:
        for epoch in range(2):
            mine, theirs = [[*one.batches(epoch)] for one in (freezer, whole)]
            assert len(mine) == len(theirs)
            for (inputs, targets), (others, _) in zip(mine, theirs, strict=True):
                assert len(inputs) == len(targets)
                rows = {row.numpy().tobytes() for row in others}
                assert all(row.numpy().tobytes() in rows for row in inputs)
            counts.append(sum(len(targets) for _, targets in mine))
            freezer.end_epoch()
            whole.end_epoch()
        assert counts == [N - len(BAD)] * 2
        assert sorted(told(freezer)) == sorted(BAD)
        evaluation = freezer.evaluation(Damaged(), codec="exact")
        for _ in range(2):
            assert sum(len(targets) for _, targets in evaluation) == N - len(BAD)


@pytest.mark.filterwarnings("ignore")
def test_batches_of_which_nothing_is_left_are_none() -> None:
    bad = {number: OSError("gone") for number in range(20, 110)}
    with freezer_of("skip", Damaged(bad), batch_size=2, epochs=2) as freezer:
        for epoch in range(2):
            sizes = [len(targets) for _, targets in freezer.batches(epoch)]
            assert set(sizes) == {2}
            assert len(sizes) < freezer.batches_per_epoch
            freezer.end_epoch()


def test_each_is_said_with_its_count() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        samples = Samples(Damaged(), on_bad_sample="skip")
        for _ in range(2):
            [*samples.batches([torch.arange(N)], samples.pipeline.draw(N, 0))]
    mine = [str(warning.message) for warning in said if "leaves out" in str(warning.message)]
    assert len(mine) == len(BAD)
    words = "hoarfrost leaves out sample 7 of Damaged (folder/7.png) cannot be read: OSError: image file is truncated"
    assert any(text.startswith(words) for text in mine)
    assert any(text.endswith("(3 so far)") for text in mine)


@pytest.mark.parametrize("mistake", [TypeError("x"), KeyError("x"), AttributeError("x")])
def test_mistakes_in_a_data_sets_code_are_the_users_to_see(mistake: Exception) -> None:
    samples = Samples(Damaged({73: mistake}), on_bad_sample="skip")
    with pytest.raises(type(mistake)):
        samples.read([73])


def test_a_data_set_of_which_nothing_can_be_read_is_an_error() -> None:
    with pytest.raises(DatasetError, match="100 samples in a row cannot be read, from 0 on: sample 0 of Damaged"):
        Samples(Damaged({number: OSError("gone") for number in range(N)}), on_bad_sample="skip")


def test_another_word_is_refused() -> None:
    with pytest.raises(ArgumentError, match="on_bad_sample must be one of 'error', 'skip', 'replace', not 'ignore'"):
        freezer_of("ignore")


def test_pictures_that_are_only_opened_are_read_in_time(tmp_path: Path) -> None:
    for number in range(4):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(tmp_path / f"{number}.png")
    cut = tmp_path / "2.png"
    cut.write_bytes(cut.read_bytes()[:60])
    opened = [(tmp_path / f"{number}.png", 0) for number in range(4)]

    class Opened(Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return Image.open(opened[index][0]), 0

    with pytest.raises(DatasetError, match="sample 2 of Opened cannot be read"):
        Samples(Opened())


def folder(root: Path, count: int = 6) -> Path:
    for part, much in (("train", count), ("val", 2)):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for number in range(much):
                colour = (40 * number, 90, 200 if name == "cat" else 20)
                Image.new("RGB", (16, 16), colour).save(root / part / name / f"{number}.png")
    return root


def test_what_is_transparent_is_laid_on_a_colour_and_said_once(tmp_path: Path) -> None:
    root = folder(tmp_path)
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(root / "train/cat/0.png")
    Image.new("LA", (16, 16), (0, 128)).save(root / "train/cat/1.png")
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([9, 9, 9] + [0] * 765)
    palette.save(root / "train/cat/2.png", transparency=0)
    Image.new("RGBA", (16, 16), (1, 2, 3, 255)).save(root / "train/cat/3.png")
    for background, wanted in (("white", (255, 255, 255)), ("#102030", (16, 32, 48))):
        train_set, _ = image_folder(root, background=background)
        with pytest.warns(UserWarning, match=r"transparent, such as .*0\.png; they are laid on") as said:
            found = [train_set[number][0].getpixel((3, 3)) for number in range(4)]
        assert len(said) == 1
        assert found[0] == found[2] == wanted
        assert found[1] == tuple(round(part * 127 / 255) for part in wanted)
        assert found[3] == (1, 2, 3)
    with pytest.raises(ArgumentError, match="background 'no' is no colour"):
        image_folder(root, background="no")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_command_names_skips_and_replaces(tmp_path: Path, workers: str) -> None:
    root = folder(tmp_path / "data")
    cut = root / "train/dog/3.png"
    cut.write_bytes(cut.read_bytes()[:50])
    (root / "val/cat/0.png").write_bytes(b"")
    line = ["train", "--data", str(root), "--epochs", "2", "--batch-size", "4", "--cut", "layer1", "--cut-epoch", "1"]
    line += ["--mode", "cache", "--workers", workers, "--device", "cpu"]
    refused = CliRunner().invoke(app, [*line, "--out", str(tmp_path / "error")])
    assert refused.exit_code == 2
    assert "Traceback" not in refused.output
    assert "cannot be read" in refused.output
    for then in ("skip", "replace"):
        found = CliRunner().invoke(app, [*line, "--out", str(tmp_path / then), "--on-bad-sample", then])
        assert found.exit_code == 0, found.output
        assert '"event": "bad_sample"' in (tmp_path / then / "metrics.jsonl").read_text()
