"""Inputs of differing lengths: texts and audio frames, padded in each batch by the user's collate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hoarfrost import Freezer
from hoarfrost.codecs import FirstTokens, Linear, Shared
from hoarfrost.errors import ArgumentError, DatasetError, NoCutError
from shared.ragged import (
    WIDTH,
    Frames,
    Item,
    LengthsFirst,
    Strided,
    Texts,
    Unmasked,
    frames,
    frames_collate,
    mean_of,
    padding_collate,
    texts,
)
from shared.ragged_kinds import KINDS, Kind, called, freezer_of, train
from shared.runs import step_losses

SLOW = ("strided, at the stem", "wave", "bert")  # a BERT is trained in integrations/test_transformers.py too
ALL = pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, kind in KINDS.items()]
)


def frozen(kind: Kind, folder: Path, **told: Any) -> Freezer:
    """Behind its freeze, with a cache."""
    freezer = freezer_of(kind, folder, **told)
    train(freezer, range(1))
    freezer.decide(store=True)
    assert freezer.source == "cache"
    return freezer


@ALL
def test_a_cached_run_is_a_recomputing_run(kind: Kind, tmp_path: Path) -> None:
    runs = []
    for mode, source in (("cache", "cache"), ("recompute", "recompute")):
        freezer = freezer_of(kind, tmp_path / mode, kind.data(200), mode=mode, batch_size=16)
        losses = train(freezer)
        assert freezer.source == source
        runs.append((losses, freezer.model.state_dict()))
    (cached, weights), (recomputed, others) = runs
    assert cached == recomputed
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@ALL
def test_outputs_are_those_of_the_padded_model(kind: Kind, tmp_path: Path) -> None:
    freezer = frozen(kind, tmp_path, epochs=None)
    model, data = freezer.model.eval(), kind.data()
    seen: list[int] = []
    with torch.no_grad():
        for batch in freezer.batches(1):
            whole = kind.collate([data[number] for number in batch["id"]])
            assert batch.keys() == whole.keys()
            for name in whole.keys() - {kind.main}:
                assert torch.equal(batch[name], whole[name])
            assert called(freezer, batch).item() == pytest.approx(called(model, whole).item(), rel=1e-5)
            if "labels" not in batch:  # called with positions, where data and cuts know keywords
                mask = batch["lengths" if "lengths" in batch else "padding"]
                loss = nn.functional.cross_entropy(freezer(batch[kind.main], mask), batch["label"])
                assert loss.item() == pytest.approx(called(model, whole).item(), rel=1e-5)
            seen += batch["id"].tolist()
    assert sorted(seen) == list(range(len(data)))


def test_a_resumed_run_goes_on_as_the_undisturbed_one(tmp_path: Path) -> None:
    kind = KINDS["texts"]
    whole = freezer_of(kind, tmp_path / "whole")
    losses = train(whole)

    first = freezer_of(kind, tmp_path / "cut")
    begun = train(first, range(2))
    state, weights = first.state_dict(), first.model.state_dict()
    model = kind.model().train()
    model.load_state_dict(weights)
    second = freezer_of(kind, tmp_path / "cut", model=model)
    second.load_state_dict(state)
    assert second.source == "cache"
    assert begun + train(second, range(2, 4)) == losses


def test_a_damaged_chunk_is_healed_to_the_bit(tmp_path: Path) -> None:
    kind = KINDS["frames"]
    undisturbed = train(freezer_of(kind, tmp_path / "whole", kind.data(200), batch_size=16))
    freezer = freezer_of(kind, tmp_path / "damaged", kind.data(200), batch_size=16)
    losses = train(freezer, range(2))
    assert freezer.cache is not None
    path = freezer.cache.path / "features.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    assert losses + train(freezer, range(2, 4)) == undisturbed
    assert [entry["same_bits"] for entry in freezer.history if entry["event"] == "heal"] == [True]
    assert freezer.cache.verify() == []


def test_stored_bytes_are_those_of_the_entries_without_padding(tmp_path: Path) -> None:
    """As many for each token as of texts that are all of one length, which need no padding."""
    kind, per_token = KINDS["texts"], []
    for name, data in (("differing", texts(200)), ("of one length", texts(200, shortest=60))):
        tokens = sum(len(item["tokens"]) for item in data)
        cache = frozen(kind, tmp_path / name, data=data, ladder="half").cache
        assert cache is not None
        assert cache.spec.ragged == (name == "differing")
        assert cache.dense_nbytes == 4 * tokens * WIDTH
        per_token.append((cache.path / "features.bin").stat().st_size / tokens)
    assert per_token[0] == pytest.approx(per_token[1], rel=0.03)


FORETOLD = [8, 4, "auto", FirstTokens(2, Shared(5), Linear(8))]


@pytest.mark.parametrize("ladder", FORETOLD, ids=str)
def test_the_bytes_of_a_rung_are_foretold(ladder: Any, tmp_path: Path) -> None:
    """Though what a chunk and its first tokens take does not grow with lengths, and counts most in the least rungs."""
    freezer = frozen(KINDS["frames"], tmp_path, data=frames(600, shortest=2, longest=100), ladder=ladder)
    (record,) = [entry for entry in freezer.history if entry["event"] == "freeze"]
    assert record["choice"] == "cache"
    stored = [(cache.path / "features.bin").stat().st_size for cache in freezer._feeder.caches]
    # Targets, ids, lengths and digests of samples, of both tensors; and what is written about the whole.
    about = sum((cache.path / "manifest.json").stat().st_size for cache in freezer._feeder.caches)
    beside = record["target_bytes"] + record["journal_bytes"]
    assert record["cache_bytes"] - about == pytest.approx(record["predicted_bytes"], rel=0.02)
    assert sum(stored) == pytest.approx(record["predicted_bytes"] - beside, rel=0.02)
    assert record["cache_bytes"] - sum(stored) - about < 600 * 80
    assert about < 2 * 10_000
    (rung,) = [rung for rung in record["rungs"] if rung["chosen"]]
    assert freezer.cache is not None
    features = (freezer.cache.path / "features.bin").stat().st_size
    assert features / 600 == pytest.approx(rung["bytes_per_sample"], rel=0.02)


def test_a_budget_that_is_too_small_is_kept(tmp_path: Path) -> None:
    kind = KINDS["texts"]
    freezer = freezer_of(kind, tmp_path, disk_budget=20_000)
    with pytest.warns(UserWarning, match="goes on by recomputing"):
        train(freezer, range(2))
    assert freezer.source == "recompute"
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 20_000
    train(freezer, range(2, 4))


def test_batches_behind_a_freeze_are_of_about_one_length(tmp_path: Path) -> None:
    kind, data = KINDS["texts"], texts(1000)
    freezer = frozen(kind, tmp_path, data=data, ladder="half", batch_size=16)
    stored = sum(batch["padding"].numel() for batch in freezer.batches(1))
    live = sum(batch["padding"].numel() for batch in freezer._data.live(1))
    tokens = sum(len(item["tokens"]) for item in data)
    assert stored < 1.2 * tokens
    assert live > 1.6 * tokens


@pytest.mark.parametrize("name", ["texts", "frames", "strided"])
def test_an_evaluation_gives_what_the_model_gives(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    freezer, test = frozen(kind, tmp_path, epochs=None), kind.data(40, 7)
    evaluation = freezer.evaluation(test, batch_size=9, codec="exact")
    model = freezer.model.eval()
    for _ in range(2):  # computed, then read
        with torch.no_grad():
            for batch in evaluation:
                whole = kind.collate([test[number] for number in batch["id"]])
                assert called(freezer, batch).item() == pytest.approx(called(model, whole).item(), rel=1e-5)
    assert evaluation.nbytes > 0


def test_workers_give_the_same(tmp_path: Path) -> None:
    kind = KINDS["frames"]
    runs = [train(freezer_of(kind, tmp_path / str(workers), workers=workers), range(3)) for workers in (0, 1)]
    assert runs[0] == runs[1]


def test_views_of_a_transform_that_keeps_the_length(tmp_path: Path) -> None:
    def louder(frames: torch.Tensor) -> torch.Tensor:
        return frames * (1 + torch.rand(()))

    kind = KINDS["frames"]
    freezer = frozen(kind, tmp_path, transform=louder, views=2, ladder="half")
    assert freezer.cache is not None
    assert freezer.cache.spec.views == 2
    assert not torch.equal(*(freezer.cache.read(0, view).features() for view in (0, 1)))
    train(freezer, range(1, 3))


def test_a_model_that_looks_at_the_padding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoCutError, match=r"changes when its batch is padded to \d+: stored features have no padding"):
        freezer_of(KINDS["texts"], tmp_path, model=Unmasked())
    freezer_of(KINDS["texts"], tmp_path, model=Unmasked(), policy="none").close()


def test_a_convolution_that_reaches_over_the_end_of_a_sample_is_refused(tmp_path: Path) -> None:
    """Its own zeros are none behind a layer that makes something of them; whether they are seen tells the length."""

    class Louder(Strided):
        def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return super().forward(frames + 1, lengths)

    with pytest.raises(NoCutError, match=r"for a sample of \d+ changes when its batch is padded to \d+"):
        freezer_of(KINDS["strided"], tmp_path, model=Louder(padding=1))
    freezer_of(KINDS["strided"], tmp_path, model=Strided(padding=1)).close()


def test_bytes_behind_a_stride_are_those_of_its_steps(tmp_path: Path) -> None:
    freezer = frozen(KINDS["strided, at the stem"], tmp_path)
    lengths = [len(item["frames"]) for item in frames()]
    assert freezer.cache is not None
    assert freezer.cache.dense_nbytes == 4 * 6 * sum((length - 3) // 2 + 1 for length in lengths)


def test_the_main_input_need_not_be_the_first_argument(tmp_path: Path) -> None:
    def collate(items: list[Item]) -> Item:
        batch = frames_collate([{**item, "frames": item["bands"].mT} for item in items])
        return {"bands": batch.pop("frames").mT, **batch}

    data = [{"bands": item.pop("frames").mT, **item} for item in frames()]
    kind = Kind(LengthsFirst, frames, collate, "encoder.layers.1", "bands")
    freezer = frozen(kind, tmp_path, data=data, epochs=None)
    model = freezer.model.eval()
    with torch.no_grad():
        for batch in freezer.batches(1):
            whole = collate([data[number] for number in batch["id"]])
            expected = model(whole["lengths"], whole["bands"])
            torch.testing.assert_close(freezer(lengths=batch["lengths"], bands=batch["bands"]), expected)


def test_a_transform_that_changes_the_length_is_not_stored_by_it(tmp_path: Path) -> None:
    kind = KINDS["frames"]

    def sometimes_shorter(frames: torch.Tensor) -> torch.Tensor:
        return frames[:-1] if len(frames) == 37 else frames

    data = [*frames(20, shortest=6, longest=30), *({**item, "id": 20} for item in frames(1, shortest=37, longest=37))]
    data += [{**item, "id": 21 + item["id"]} for item in frames(20, 5, shortest=6, longest=30)]
    with pytest.raises(DatasetError, match=r"the transform makes \[36, 6\] of an input of \[37, 6\]"):
        freezer_of(kind, tmp_path, data, transform=sometimes_shorter)


def test_a_collate_that_looks_at_the_input_is_refused(tmp_path: Path) -> None:
    def mask_of_values(items: list[Item]) -> Item:
        batch = frames_collate(items)
        return {**batch, "lengths": batch["frames"].abs().sum(2).gt(0).sum(1)}

    kind = KINDS["frames"]
    with pytest.raises(DatasetError, match="mask_of_values looks at the values of the input"):
        freezer_of(kind, tmp_path, collate_fn=mask_of_values)


@pytest.mark.parametrize(("whole", "error"), [(2, NoCutError), (6, DatasetError)], ids=["of few", "of many"])
def test_a_collate_that_cuts_by_its_batch_is_told(whole: int, error: type[Exception], tmp_path: Path) -> None:
    """Before training, or with the first batch that has too many for the few that are looked at before."""

    def to_the_shorter_half(items: list[Item]) -> Item:
        batch = padding_collate(items)
        length = batch["tokens"].shape[1] if len(items) <= whole else 30
        return {**batch, "tokens": batch["tokens"][:, :length], "padding": batch["padding"][:, :length]}

    with pytest.raises(error, match=r"30 .*with a sample of \d+: .* cut it to a length before it is collated"):
        train(freezer_of(KINDS["texts"], tmp_path, collate_fn=to_the_shorter_half), range(2))


class TwoLayers(Texts):
    """Its last layer reads both of those in front of it."""

    def forward(self, tokens: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens)
        layers = self.encoder.layers
        first = layers[0](x, src_key_padding_mask=padding)
        x = layers[2](first + layers[1](first, src_key_padding_mask=padding), src_key_padding_mask=padding)
        scores: torch.Tensor = self.last(mean_of(x, padding))
        return scores


@pytest.mark.parametrize(
    "told", [{"cuts": ["encoder.layers.0", "encoder.layers.1"], "policy": {1: 1}}, {"max_tensors": 2}], ids=str
)
def test_two_layers_cross_without_their_padding(told: dict[str, Any], tmp_path: Path) -> None:
    kind, losses = Kind(TwoLayers, texts, padding_collate, "encoder.layers.1", "tokens"), []
    for mode in ("cache", "recompute"):
        freezer = freezer_of(kind, tmp_path / mode, mode=mode, **told)
        losses.append(train(freezer, range(3)))
        assert freezer.source == mode
        if mode == "cache":
            assert [cache.spec.ragged for cache in freezer._feeder.caches] == [True, True, True]
    assert losses[0] == losses[1]


def test_a_reduced_precision_keeps_the_law(tmp_path: Path) -> None:
    runs = [
        train(freezer_of(KINDS["frames"], tmp_path / mode, mode=mode, precision="bf16"), range(3))
        for mode in ("cache", "recompute")
    ]
    assert runs[0] == runs[1]


class Gained(Frames):
    """It is told how much louder its frames are, and does not need it."""

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor, gain: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(frames, lengths)


@pytest.mark.parametrize(("mode", "workers"), [("cache", 0), ("cache", 1), ("recompute", 0)])
def test_what_is_drawn_with_the_frames_comes_back_with_them(mode: str, workers: int, tmp_path: Path) -> None:
    def louder(item: Item) -> Item:
        gain = 1 + torch.rand(())
        return {**item, "frames": item["frames"] * gain, "gain": gain}

    def collate(items: list[Item]) -> Item:
        return {**frames_collate(items), "gain": torch.stack([torch.as_tensor(item["gain"]) for item in items])}

    kind, data = Kind(Gained, frames, collate, "encoder.layers.1", "frames"), [{**i, "gain": 1.0} for i in frames()]
    freezer = freezer_of(kind, tmp_path, data, transform=louder, mode=mode, workers=workers, epochs=None)
    train(freezer, range(1))
    assert freezer.source == mode
    model, shown = freezer.model.eval(), set[tuple[int, float]]()
    for epoch in (1, 2):
        with torch.no_grad():
            for batch in freezer.batches(epoch):
                pairs = list(zip(batch["id"].tolist(), batch["gain"], strict=True))
                whole = collate([{**data[n], "frames": data[n]["frames"] * gain, "gain": gain} for n, gain in pairs])
                assert called(freezer, batch).item() == pytest.approx(called(model, whole).item(), rel=1e-5)
                shown |= {(n, gain.item()) for n, gain in pairs}
        freezer.end_epoch()
    assert len(shown) > len(data)


def pairs(items: list[Item]) -> list[Item]:
    """Each with the frames of the one before, of another length, beside its own."""
    return [{**item, "other": before["frames"]} for item, before in zip(items, [items[-1], *items[:-1]], strict=True)]


def pairs_collate(items: list[Item]) -> Item:
    other = frames_collate([{**item, "frames": item["other"]} for item in items])
    return {**frames_collate(items), "other": other["frames"], "other_lengths": other["lengths"]}


TWICE = Kind(Frames, lambda *given: pairs(frames(*given)), pairs_collate, "encoder.layers.1", "frames")
CALLS = {
    "by position": (("frames", "lengths"), ("other", "other_lengths")),
    "by keyword": ({"frames": "frames", "lengths": "lengths"}, {"frames": "other", "lengths": "other_lengths"}),
}


def both(call: Any, batch: Item) -> Any:
    """The loss of a sample's two outputs, and of which is which."""
    one, other = call(batch["frames"], batch["lengths"]), call(batch["other"], batch["other_lengths"])
    return nn.functional.cross_entropy(one + 0.5 * other, batch["label"])


def by_keyword(call: Any, batch: Item) -> Any:
    one = call(frames=batch["frames"], lengths=batch["lengths"])
    other = call(frames=batch["other"], lengths=batch["other_lengths"])
    return nn.functional.cross_entropy(one + 0.5 * other, batch["label"])


@pytest.mark.parametrize("how", CALLS)
def test_each_of_several_calls_has_lengths_of_its_own(how: str, tmp_path: Path) -> None:
    runs, step = [], by_keyword if how == "by keyword" else both
    for mode in ("cache", "recompute"):
        freezer = freezer_of(TWICE, tmp_path / mode, mode=mode, input=CALLS[how])
        losses = step_losses(freezer, lambda batch, freezer=freezer: step(freezer, batch), range(3), 1)
        assert freezer.source == mode
        runs.append((losses, freezer.model.state_dict()))
        if mode == "cache":
            of_call = [[len(item[name]) for item in TWICE.data()] for name in ("frames", "other")]
            caches = freezer._feeder.caches
            assert [cache.dense_nbytes for cache in caches[::2]] == [4 * WIDTH * (sum(n) + len(n)) for n in of_call]
    (cached, weights), (recomputed, others) = runs
    assert cached == recomputed
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_features_of_several_calls_are_those_of_the_padded_model(tmp_path: Path) -> None:
    freezer = frozen_twice(tmp_path)
    model, data = freezer.model.eval(), TWICE.data()
    with torch.no_grad():
        for batch in freezer.batches(1):
            whole = pairs_collate([data[number] for number in batch["id"]])
            assert both(freezer, batch).item() == pytest.approx(both(model, whole).item(), rel=1e-5)


def test_several_calls_are_evaluated_from_stored_features(tmp_path: Path) -> None:
    freezer, data = frozen_twice(tmp_path), TWICE.data()
    model, stored = freezer.model.eval(), freezer.evaluation(TWICE.data(), batch_size=20, codec="exact")
    with torch.no_grad():
        for _ in range(2):
            for batch in stored:
                whole = pairs_collate([data[number] for number in batch["id"]])
                assert both(freezer, batch).item() == pytest.approx(both(model, whole).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (("other",), r"input must be mappings for all calls of the model, or for none"),
        ({"frame": "other"}, r"the model's forward takes 'frames', 'lengths', not 'frame'"),
        ({"lengths": "other_lengths", "frames": "other"}, r"first keyword of a call, which is 'frames', 'lengths'"),
    ],
    ids=["one without", "another keyword", "another first one"],
)
def test_what_calls_take_is_told_alike(second: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=words):
        freezer_of(TWICE, tmp_path, input=({"frames": "frames", "lengths": "lengths"}, second))


def test_two_calls_may_take_the_same(tmp_path: Path) -> None:
    losses = []
    for mode in ("cache", "recompute"):
        freezer = freezer_of(TWICE, tmp_path / mode, mode=mode, input=(CALLS["by position"][0],) * 2)
        step = partial(twice, freezer)
        losses.append(step_losses(freezer, step, range(2), 1))
        assert freezer.source == mode
    assert losses[0] == losses[1]


def twice(call: Any, batch: Item) -> Any:
    one, again = call(batch["frames"], batch["lengths"]), call(batch["frames"], batch["lengths"])
    return nn.functional.cross_entropy(one + again, batch["label"])


def frozen_twice(folder: Path, **told: Any) -> Freezer:
    freezer = freezer_of(TWICE, folder, input=CALLS["by position"], epochs=None, **told)
    step_losses(freezer, lambda batch: both(freezer, batch), range(1), 1)
    freezer.decide(store=True)
    assert freezer.source == "cache"
    return freezer


@pytest.mark.slow
def test_the_bytes_of_several_calls_are_foretold(tmp_path: Path) -> None:
    data = [{**item, "other": item["frames"][: len(item["frames"]) // 3 + 2]} for item in frames(600)]
    freezer = frozen_twice(tmp_path, data=data)
    (record,) = [entry for entry in freezer.history if entry["event"] == "freeze"]
    assert record["predicted_bytes"] == pytest.approx(record["cache_bytes"], rel=0.05)


def words_collate(items: list[Item]) -> Item:
    """Texts come as words; tokens are made of them here, and two columns of texts by names of their own."""

    def tokens(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        made = padding_collate([{**item, "tokens": [*map(int, item[name].split())]} for item in items])
        return made["tokens"], made["padding"]

    batch: Item = {name: torch.tensor([item[name] for item in items]) for name in ("label", "id")}
    for name in ("anchor", "answer"):
        batch[f"{name}_tokens"], batch[f"{name}_padding"] = tokens(name)
    return batch


def words(samples: int = 60) -> list[Item]:
    drawn = [" ".join(map(str, item["tokens"])) for item in texts(samples)]
    return [
        {"anchor": text, "answer": drawn[n - 1], "label": item["label"], "id": n}
        for n, (text, item) in enumerate(zip(drawn, texts(samples), strict=True))
    ]


WORDS = Kind(Texts, words, words_collate, "encoder.layers.1", "anchor_tokens")
COLUMNS = tuple({name: f"{column}_{name}" for name in ("tokens", "padding")} for column in ("anchor", "answer"))


def compared(call: Any, batch: Item) -> Any:
    one, other = ({name: batch[key] for name, key in column.items()} for column in COLUMNS)
    return nn.functional.cross_entropy(call(**one) - 0.5 * call(**other), batch["label"])


def test_what_a_collate_makes_of_texts_is_stored_without_padding(tmp_path: Path) -> None:
    runs = []
    for mode in ("cache", "recompute"):
        freezer = freezer_of(WORDS, tmp_path / mode, mode=mode, input=COLUMNS)
        losses = step_losses(freezer, lambda batch, freezer=freezer: compared(freezer, batch), range(3), 1)
        assert freezer.source == mode
        runs.append((losses, freezer.model.state_dict()))
    (cached, weights), (recomputed, others) = runs
    assert cached == recomputed
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_other_texts_are_another_data_set(tmp_path: Path) -> None:
    """Of the same lengths, so that nothing but the texts differs."""
    found = []
    for data in (words(), [{**item, "answer": " ".join(item["answer"].split()[::-1])} for item in words()]):
        freezer = freezer_of(WORDS, tmp_path, data, input=COLUMNS, policy={0: WORDS.cut})
        next(freezer.batches(0))
        found.append({cache.fingerprint.digest for cache in freezer._feeder.caches})
    assert not found[0] & found[1]


def test_what_no_batch_holds_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"there is no 'anchor_words' in a batch that holds 'label', 'id', 'anchor_"):
        freezer_of(WORDS, tmp_path, input=({"tokens": "anchor_words"},))
