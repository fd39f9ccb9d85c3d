"""The first tokens of each sample apart from the others, from a freeze to the batches of later epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hoarfrost import Cache, Freezer, Selection, Views
from hoarfrost.cli.cache_tables import caches_table, damage_table
from hoarfrost.codecs import Exact, FirstTokens, Linear, Shared
from shared.images import PLAIN, RANDOM, images
from shared.nets import vit
from shared.ragged import Frames
from shared.ragged_kinds import KINDS, Kind, freezer_of, train
from shared.runs import step_losses

LEVELS = FirstTokens(1, Shared(16))
TRIED = ("texts", "padded in front", "frames")
RAGGED = pytest.mark.parametrize("kind", [KINDS[name] for name in TRIED], ids=TRIED)


def on_images(folder: Path, **told: Any) -> Freezer:
    model = vit().train()
    settings: dict[str, Any] = {
        "batch_size": 16,
        "epochs": 4,
        "policy": {1: "encoder.layers.encoder_layer_0"},
        "transform": RANDOM,
        "mode": "cache",
        "ladder": LEVELS,
        "cache_dir": folder,
        "verbose": False,
        "optimizer": torch.optim.SGD(model.parameters(), 0.01),
        **told,
    }
    return Freezer(model, images(96, None), **settings)


def train_on_images(freezer: Freezer, epochs: range = range(4)) -> list[float]:
    return step_losses(freezer, lambda batch: nn.functional.cross_entropy(freezer(batch[0]), batch[1]), epochs, 0)


@pytest.mark.slow
@RAGGED
def test_with_the_exact_codec_a_cached_run_is_a_recomputing_run(kind: Kind, tmp_path: Path) -> None:
    told = {"data": kind.data(100), "ladder": FirstTokens(1, Exact())}
    cached = freezer_of(kind, tmp_path / "cached", **told)
    recomputing = freezer_of(kind, tmp_path / "recomputing", **told, mode="recompute")
    assert train(cached) == train(recomputing)
    weights = recomputing.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in cached.model.state_dict().items())


def test_so_it_is_for_images(tmp_path: Path) -> None:
    told = {"ladder": FirstTokens(1, Exact()), "transform": PLAIN, "epochs": 3}
    runs = [on_images(tmp_path / mode, **told, mode=mode) for mode in ("cache", "recompute")]
    assert train_on_images(runs[0], range(3)) == train_on_images(runs[1], range(3))
    assert [run.source for run in runs] == ["cache", "recompute"]


def rows(freezer: Freezer, kind: Kind) -> dict[int, Tensor]:
    """The features that an epoch shows of each sample."""
    found = {}
    for batch in freezer.batches(1):
        shown = batch[kind.main]
        features = shown if isinstance(shown, Tensor) else shown[0]  # beside what else crosses the cut
        found.update(zip(batch["id"].tolist(), features, strict=True))
    return found


@pytest.mark.parametrize("kind", [KINDS["texts"], KINDS["frames"]], ids=["texts", "frames"])
def test_batches_hold_the_first_tokens_exactly(kind: Kind, tmp_path: Path) -> None:
    shown = []
    for name, ladder in (("exact", Exact()), ("apart", FirstTokens(2, Shared(8)))):
        freezer = freezer_of(kind, tmp_path / name, ladder=ladder)
        train(freezer, range(1))
        shown.append(rows(freezer, kind))
    exact, apart = shown
    assert all(torch.equal(apart[n][:2], mine[:2]) for n, mine in exact.items())
    assert not any(torch.equal(apart[n][2:], mine[2:]) for n, mine in exact.items())


@pytest.mark.parametrize("kind", ["texts", "images"])
def test_a_damaged_chunk_is_healed_to_the_bit(kind: str, tmp_path: Path) -> None:
    def begun(folder: Path) -> tuple[Freezer, Any]:
        if kind == "images":
            return on_images(folder), train_on_images
        return freezer_of(KINDS[kind], folder, ladder=LEVELS), train

    whole, run = begun(tmp_path / "whole")
    undisturbed = run(whole)
    freezer, _ = begun(tmp_path / "damaged")
    losses = run(freezer, range(2))
    assert freezer.cache is not None
    path = freezer.cache.path / "features.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    assert "1" in str(damage_table(tmp_path / "damaged").rows)
    assert losses + run(freezer, range(2, 4)) == undisturbed
    assert [entry["same_bits"] for entry in freezer.history if entry["event"] == "heal"] == [True]
    assert freezer.cache.verify() == []


@pytest.mark.parametrize(
    "views",
    [Views(2, Selection(share=0.25)), Views(3, Selection(share=0.5), residual=True, bits=3), Views(1, refresh_every=2)],
    ids=["channels", "differences of fewer bits", "drawn anew"],
)
def test_views_are_stored_derived_and_drawn_anew(views: Views, tmp_path: Path) -> None:
    freezer = on_images(tmp_path, views=views)
    losses = train_on_images(freezer)
    assert freezer.source == "cache"
    assert all(map(torch.isfinite, torch.tensor(losses)))
    assert freezer.cache is not None
    assert all(isinstance(freezer.cache.spec.codec_of(view), FirstTokens) for view in range(freezer.cache.spec.views))


def test_a_deeper_cut_is_built_from_such_features(tmp_path: Path) -> None:
    cuts = {1: "encoder.layers.encoder_layer_0", 2: "encoder.layers.encoder_layer_1"}
    freezer = on_images(
        tmp_path, policy=cuts, build_from="features", ladder=FirstTokens(1, Shared(200)), views=1, tolerance=0.1
    )
    train_on_images(freezer)
    assert [entry["built_from"] is not None for entry in freezer.history if entry["event"] == "freeze"] == [False, True]


def test_the_cache_says_so_on_disk_and_is_read_by_its_name(tmp_path: Path) -> None:
    freezer = freezer_of(KINDS["texts"], tmp_path, ladder=LEVELS)
    train(freezer, range(2))
    assert freezer.cache is not None
    opened = Cache.open(freezer.cache.path)
    assert opened.spec.codec == LEVELS
    assert opened.fingerprint.fields["codec"] == LEVELS.to_config()
    assert [row[4] for row in caches_table(tmp_path).rows].count("first-tokens 1 (shared 16, exact)") == 1
    (freeze,) = (entry for entry in freezer.history if entry["event"] == "freeze")
    assert [rung["codec"] for rung in freeze["rungs"]] == ["Shared(levels=16), first token Exact()"]


def test_evaluation_takes_such_a_codec(tmp_path: Path) -> None:
    freezer = freezer_of(KINDS["texts"], tmp_path)
    train(freezer, range(1))
    test = KINDS["texts"].data(30, 1)
    evaluations = [freezer.evaluation(test, codec=codec) for codec in ("exact", FirstTokens(60, Linear(4)))]
    outputs: list[list[Tensor]] = [[], []]
    freezer.batches(1)
    freezer.model.eval()
    with torch.no_grad():
        for found, evaluation in zip(outputs, evaluations, strict=True):
            for batch in evaluation:
                found.append(freezer(**{n: v for n, v in batch.items() if n not in ("label", "id")}))
    assert len(outputs[0]) == len(outputs[1])
    assert all(map(torch.equal, *outputs))


class Loud(Frames):
    """Its first token is much larger than the others, in front of the last layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder.layers[1] = Louder(self.encoder.layers[1])


class Louder(nn.Module):
    """A layer whose first token comes out a thousand times as large, and constant but for a thousandth."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        x = self.layer(*args, **kwargs)
        return torch.cat([1000 + x[:, :1], x[:, 1:]], 1)


def test_a_freeze_sets_a_large_first_token_apart(tmp_path: Path) -> None:
    kind = replace(KINDS["frames"], model=Loud)
    freezer = freezer_of(kind, tmp_path, kind.data(200), ladder="auto")
    train(freezer, range(1))
    freezer.decide(store=True)
    assert freezer.cache is not None
    codec = freezer.cache.spec.codec
    assert isinstance(codec, FirstTokens)
    assert (codec.tokens, codec.first) == (1, Linear(8))
