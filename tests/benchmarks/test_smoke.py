"""Each benchmark script runs through on a little data and leaves what it promises."""

from __future__ import annotations

import json
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shared.scripts import run

pytestmark = pytest.mark.slow


@pytest.mark.long
def test_demo_over_seeds(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    stories = ("--story", "scratch", "--story", "paper")
    run("demo.py", *stories, "--seeds", "2", "--epochs", "4", "--samples", "300", "--out", str(out))
    found = json.loads(out.read_text())
    assert [(of["story"], of["seed"]) for of in found["runs"]] == [(s, n) for n in (0, 1) for s in ("scratch", "paper")]
    arms = {arm["arm"]: arm for arm in found["runs"][1]["arms"]}
    assert list(arms) == ["the paper's method", "Hoarfrost", "conventional freezing"]
    assert len(arms["the paper's method"]["cache_bytes"]) == 2  # ours need not store what is as soon computed
    assert arms["Hoarfrost"] == next(arm for arm in found["runs"][0]["arms"] if arm["arm"] == "Hoarfrost") | {
        "seconds_to_full": arms["Hoarfrost"]["seconds_to_full"]
    }


@pytest.mark.long
def test_building(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    run("build.py", "--model", "cifar_resnet", "--samples", "192", "--repeats", "1", "--out", str(out))
    found = json.loads(out.read_text())
    assert [row["cut"] for row in found["passes"]] == ["layer1", "layer2"]
    assert all(row["against_prefix"]["median"] > 0 for row in found["passes"])
    (row,) = found["onward"]
    assert row["ratio"]["median"] > 0
    assert (row["kl_features"] is None) == ("built from images" in row["decision"])


def test_batches_by_layout(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    run("batches.py", "--samples", "128", "--turns", "2", "--out", str(out))
    found = json.loads(out.read_text())
    assert set(found["trained"]) == {"pairs", "pairs, own collate", "triples", "mappings", "dataclasses"}
    rows = [*found["trained"].values(), *found["drawn"].values()]
    assert all(row["median"] > 0 and row["seconds"] > 0 for row in rows)


def test_routing(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    run("routing.py", "--batch-size", "4", "--turns", "3", "--out", str(out))
    found = json.loads(out.read_text())
    assert set(found) == {"resnet18", "vit"}
    assert all(0 < of["low"] <= of["high"] and of["ms"] > 0 for kinds in found.values() for of in kinds.values())


@pytest.mark.long
def test_two_processes(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    run("distributed.py", "--samples", "96", "--size", "32", "--batch-size", "16", "--turns", "2", "--out", str(out))
    found = json.loads(out.read_text())
    assert all(of["median"] > 0 for of in found["seconds"].values())
    assert set(found["ratios"]) == {"cached / resident", "cached / (alone / 2 + reduced)", "alone / cached"}


@pytest.mark.long
def test_fetching(tmp_path: Path) -> None:
    out = tmp_path / "fetching.json"
    run("fetching.py", "--samples", "32", "--pixels", "32", "--turns", "1", "--out", str(out))
    ways = json.loads(out.read_text())["ways"]
    assert set(ways) == {"built", "file://", "memory://"}
    assert len({of["bytes"] for of in ways.values()}) == 1
    assert all(0 < of["before"] < of["seconds"] and of["second_epoch"] > 0 for of in ways.values())


def test_fingerprints(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    run("fingerprints.py", "--samples", "96", "--trained", "64", "--turns", "1", "--out", str(out))
    found = json.loads(out.read_text())
    for kind in ("files", "memory"):
        opening, building, reading = (found[kind][part] for part in ("opening", "building", "reading"))
        assert all(seconds > 0 for seconds in opening.values())
        assert building["ratio_to_none"] > 0
        assert reading["ratio_to_stored"] > 0


def test_texts_of_differing_lengths(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    rows = run("lengths.py", "--samples", "70", "--width", "16", "--epochs", "2", "--out", str(out)).splitlines()
    values = [[float(cell) for cell in row.split("|")[2:-1]] for row in rows[2:]]
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["padded to one length", "padded batch by batch"]
    assert values[0][0] > 1.4 * values[1][0]
    assert all(row[3] < 1e-4 and row[4] > 0 for row in values)
    found = json.loads(out.read_text())
    assert [f"{row['bytes a token']:.3g}" for row in found["texts"].values()] == [f"{row[0]:.3g}" for row in values]
    assert found["options"] == {"samples": 70, "width": 16, "epochs": 2}
    assert found["machine"]["versions"]["torch"] == torch.__version__


def test_first_tokens_apart(tmp_path: Path) -> None:
    if find_spec("timm") is None:
        pytest.skip("timm is not installed")
    out = tmp_path / "found.json"
    options = ("--samples", "64", "--training", "128", "--epochs", "1", "--cuts", "1", "--out", str(out))
    table = run("first_tokens.py", "--only", "ViT, class token", *options)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["tokens"] == 50
    assert 0 < row["8 bits"] < row["half"] < row["exact"]
    assert row["alike"] is None or row["half"] < row["alike"]  # all alike, no rung may be gentle enough
    assert "| ViT, class token | 0 |" in table


@pytest.mark.long
def test_the_examples(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    sizes = ("--samples", "64", "--epochs", "6", "--seeds", "2")
    run("examples.py", "--only", "regression", *sizes, "--out", str(out))
    (ways,) = json.loads(out.read_text())["examples"].values()
    assert len(ways) == 3
    assert all(len(values) == 2 and min(values) > 0 for of in ways.values() for values in of.values())


@pytest.mark.long
def test_planning(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    options = ["--model", "cifar_resnet", "--samples", "96", "--pairs", "1", "--epochs", "1", "--out", str(out)]
    run("plan.py", *options)
    (row,) = json.loads(out.read_text())["rows"]
    assert (row["cut"], row["ladder"]) == ("layer1", "auto")
    assert row["bytes"] == pytest.approx(1, rel=0.2)
    assert row["read"] > 0


def test_epochs_by_way_of_reading(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    options = ["--model", "cifar_resnet", "--cuts", "layer2", "--repeats", "1", "--samples", "128", "--out", str(out)]
    run("cache.py", "--part", "epoch", *options)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["cut"] == "layer2"
    assert row["below_fp32"] > 1
    assert all(row[f"{way}_clock"]["median"] > 0 for way in ("memory", "disk", "capped"))


def test_the_cache_beside_other_libraries(tmp_path: Path) -> None:
    for name in ("tensorstore", "zarr", "blosc2"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    out = tmp_path / "found.json"
    run("cache.py", "--part", "libraries", "--repeats", "1", "--samples", "100", "--out", str(out))
    found = json.loads(out.read_text())["rows"]
    assert {row["store"] for row in found} == {"hoarfrost", "tensorstore", "zarr", "blosc2", "memmap", "files"}
    assert all(row["gb_per_second"]["median"] > 0 for row in found)


def test_shuffling(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    run("cache.py", "--part", "shuffle", "--seeds", "1", "--epochs", "1", "--samples", "640", "--out", str(out))
    found = {(row["chunks"], row["window"]): row for row in json.loads(out.read_text())["rows"]}
    assert found["random", 1]["one_chunk"] > 0.9 > found["random", 10]["one_chunk"]
    assert found["sorted", 1]["one_class"] > 2 * found["random", 1]["one_class"]


def test_codecs(tmp_path: Path) -> None:
    out, page = tmp_path / "found.json", tmp_path / "page.md"
    run("codecs.py", "--smoke", "--out", str(out), "--page", str(page))
    found = json.loads(out.read_text())["records"]
    assert {record["cut"] for record in found} == {"layer3"}
    assert {"exact", "half", "linear", "shared"} <= {record["codec"]["name"] for record in found}
    assert all(record["below_fp32"] > 1 and record["decode_gb_s"][0] > 0 for record in found)
    assert "| cifar_resnet | `layer3` | 64x7x7 |" in page.read_text()
    assert {record["of"] for record in found} == {None}  # there is no cut before


@pytest.mark.long
def test_settling(tmp_path: Path) -> None:
    out = tmp_path / "settle.json"
    table = run("settle.py", "--smoke", "--out", str(out))
    records = json.loads(out.read_text())["runs"]
    assert [record["settle"] for record in records] == ["auto", "last", "statistics", "average"]
    assert all(len(record["jumps"]) == 2 for record in records)
    assert [settled["way"] for settled in records[0]["settled"]] == ["statistics"] * 2
    assert "| scratch, early | average |" in table


def test_stored_views(tmp_path: Path) -> None:
    out = tmp_path / "views.json"
    table = run("stored_views.py", "--smoke", "--out", str(out))
    live, automatic = json.loads(out.read_text())["runs"]
    assert (live["way"], live["views"]) == ("live", [0, 0])
    assert min(automatic["views"]) >= 1
    assert min(automatic["bytes"]) > 0
    assert "| scratch, early | auto |" in table


def test_rates_of_full_fine_tuning(tmp_path: Path) -> None:
    out = tmp_path / "rates.json"
    run(
        "finetuning_rates.py",
        *("--rate", "0.01", "--epochs", "1", "--samples", "64", "--tests", "16", "--out"),
        str(out),
    )
    (found,) = json.loads(out.read_text())["runs"]
    assert (found["rate"], found["epochs"]) == (0.01, 1)
    assert 0 <= found["accuracy"] <= 1


def test_probes(tmp_path: Path) -> None:
    out = tmp_path / "probes.json"
    run("probes.py", "--smoke", "--seeds", "1", "--out", str(out))
    found = json.loads(out.read_text())["runs"]
    frozen = [f"{arm}{twin}" for arm in ("Hoarfrost", "linear probe") for twin in ("", ", conventional freezing")]
    assert [run["arm"] for run in found] == [*frozen, "embeddings and logistic regression"]
    assert [len(run["views"]) for run in found] == [1, 1, 1, 1, 0]
    assert all(0 <= run["accuracy"] <= 1 and run["process_seconds"] > 0 for run in found)


@pytest.mark.long
def test_a_promised_time(tmp_path: Path) -> None:
    out = tmp_path / "budget.json"
    table = run("budget.py", "--smoke", "--out", str(out))
    records = json.loads(out.read_text())["cases"]
    assert [record["target"] for record in records] == ["1.25x", "1.5x", "2x", "time", "2.5x"]
    assert all(record["allowed"] > 0 and record["seconds"] > 0 for record in records)
    assert "| cifar_resnet | 2x |" in table


def test_the_predictor_of_weights_that_have_settled(tmp_path: Path) -> None:
    made, records = tmp_path / "made.safetensors", tmp_path / "records.json"
    table = run("smartfrz.py", "--smoke", "--out", str(made), "--records", str(records))
    shipped = Path(str(files("hoarfrost.policies").joinpath("smartfrz.safetensors")))
    assert {n: t.shape for n, t in load_file(made).items()} == {n: t.shape for n, t in load_file(shipped).items()}
    assert [record["way"] for record in json.loads(records.read_text())["records"][:3]] == [
        "predictor",
        "threshold",
        "never",
    ]
    assert "| text transformer |" in table


def test_starting(tmp_path: Path) -> None:
    out, names = tmp_path / "found.json", ["hoarfrost report --help", "import hoarfrost"]
    table = run("startup.py", "--repeats", "1", "--only", *names, "--out", str(out)).splitlines()
    found = json.loads(out.read_text())["seconds"]
    assert [line.split("`")[1] for line in table[2:]] == list(found) == names
    assert all(seconds > 0 for (seconds,) in found.values())


def test_a_call_of_a_suffix(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    assert "resnet50: " in run("suffix.py", "--repeats", "4", "--only", "resnet50", "--out", str(out))
    (found,) = json.loads(out.read_text())["microseconds"].values()
    assert 0 < found["by_hand"] < found["suffix"] == pytest.approx(found["by_hand"] + found["over"])


@pytest.mark.long
def test_harm_by_task(tmp_path: Path) -> None:
    out = tmp_path / "tasks.json"
    table = run("harm_by_task.py", "--smoke", "--out", str(out))
    records = [record for record in json.loads(out.read_text())["records"] if record["arm"] == "auto"]
    assert {record["judged"] for record in records} == {"classes", "labels", "values", "loss"}
    assert "| segmentation | classes |" in table
    heads = tmp_path / "heads.json"
    options = ["--part", "heads", "--task", "classification", "--smoke", "--out", str(heads)]
    assert "| classification |" in run("harm_by_task.py", *options)
    (record,) = json.loads(heads.read_text())["records"]
    assert [0 < one["harm"] < 0.1 for one in record["behind"]] == [True, True]
    assert record["again"]["rung"] == record["behind"][1]["rung"]  # the trained head's
    assert all(0 <= record[arm]["accuracy"] <= 1 for arm in ("first", "again", "exact"))


@pytest.mark.long
def test_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    table = run("gpu.py", "--quick", "--device", "cpu", "--out", str(out))
    found = json.loads(out.read_text())
    assert (found["stopped"], "failed" in found) == ([], False)
    assert set(found["models"]) == {"resnet18", "small_vit"}
    for model in found["models"].values():
        assert set(model["compute"]["images_per_second"]) == {"full", "conventional", "resident", "cached"}
        assert set(model["loader"]["cached_over"]) == {"full", "conventional"}
        assert all(rate["min"] > 0 for rate in model["compute"]["images_per_second"].values())
        assert 0 < model["freeze"]["cache_bytes"] < model["freeze"]["dense_bytes"]
    assert "small_vit, frozen up to encoder.layers.encoder_layer_1:" in table


def test_a_gpu_without_time(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    run("gpu.py", "--quick", "--device", "cpu", "--limit", "1", "--out", str(out))
    found = json.loads(out.read_text())
    assert [reason.partition(":")[0] for reason in found["stopped"]] == ["resnet18", "small_vit"]
    assert found["models"] == {}


def test_differences_of_layers(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    out = tmp_path / "differences.json"
    table = run("layer_differences.py", "--samples", "4", "--levels", "16", "--out", str(out))
    rows = {(row["model"], row["earlier"], row["later"]): row for row in json.loads(out.read_text())["rows"]}
    assert "| Lite0, 9 and 10 | 16 |" in table
    # What is left of a residual block's output has less range than the output itself.
    assert 0 < rows["Lite0", 9, 10]["fitted"] < 1


def test_paper(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    printed = run("paper.py", "--smoke", "--story", "scratch", "--chunk", "8", "--chunk", "2", "--out", str(out))
    found = json.loads(out.read_text())["records"]
    assert [record["arm"] for record in found] == ["full", "conventional", "paper/8", "paper/2", "ours"]
    assert all(0 < record[kind] <= 1 and record["seconds"] > 0 for record in found for kind in ("plain", "augmented"))
    for record in found[2:]:
        assert [freeze["cut"] for freeze in record["freezes"]] == ["layer1", "layer2"]
        assert all(0 < freeze["cache_bytes"] < freeze["dense_bytes"] for freeze in record["freezes"])
    assert found[2]["freezes"][0]["stored_channels"] == round(0.3 * 8)
    assert "conventional / arm" in printed


def test_doors(tmp_path: Path) -> None:
    for name in ("lightning", "transformers", "accelerate", "timm"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    out = tmp_path / "doors.json"
    assert "| lightning |" in run("doors.py", "--samples", "128", "--turns", "2", "--out", str(out))
    found = json.loads(out.read_text())
    assert set(found) == {"lightning", "transformers", "accelerate", "timm"}
    assert all(0 < of["low"] <= of["high"] and of["step_ms"] > 0 for of in found.values())


def test_a_sweep(tmp_path: Path) -> None:
    out = tmp_path / "sweep.json"
    sizes = ("--variants", "2", "--samples", "128", "--epochs", "1", "--turns", "1", "--cut", "layer2")
    assert "| 2 | `layer2` |" in run("sweep.py", *sizes, "--out", str(out))
    (found,) = json.loads(out.read_text())["runs"]
    assert found["differing_tensors"] == 0
    assert found["alone_cpu_seconds"] > 0 < found["swept_cpu_seconds"]
