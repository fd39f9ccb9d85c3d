"""A model divided for inputs of any length."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hoarfrost.cuts import OtherLengths, Ragged, divide, find_cut, find_cuts, lengths_of
from hoarfrost.errors import ArgumentError, InvalidCutError
from shared.grids import grid
from shared.ragged import BANDS, WIDTH, Frames, Strided, Texts, mean_of


def tokens(length: int, samples: int = 4) -> tuple[Tensor, Tensor]:
    ids = torch.randint(1, 40, (samples, length))
    padding = torch.zeros(samples, length, dtype=torch.bool)
    padding[0, length // 2 + 1 :] = True
    return ids, padding


def recordings(length: int) -> tuple[Tensor, Tensor]:
    return torch.randn(3, length, BANDS), torch.tensor([length, 1, length // 2])


@grid(kind={"texts": (Texts(), tokens), "frames": (Frames(), recordings)}, training=[False, True])
def test_both_parts_take_any_length(kind: tuple[nn.Module, Any], training: bool) -> None:
    model, example = kind
    cuts = find_cuts(model, example(12), other=example(9))
    assert len(cuts) >= 4
    for cut in cuts:
        parts = divide(model, cut, example(12), other=example(9))
        for module in (model, *parts):
            module.train(training)
        for length in (2, 12, 33):
            batch = example(length)
            torch.manual_seed(0)
            expected = model(*batch)
            torch.manual_seed(0)
            assert torch.equal(parts[1](parts[0](*batch)), expected)


def test_what_is_as_long_as_the_input_is_marked() -> None:
    cut = find_cut(find_cuts(Texts(), tokens(12), other=tokens(9)), "encoder.layers.0")
    assert (cut.shape, cut.ragged) == ((12, WIDTH), Ragged(0))
    assert [other.ragged for other in cut.others] == [Ragged(0)]
    cut = find_cut(find_cuts(Frames(), recordings(12), other=recordings(9)), "encoder.layers.0")
    assert (cut.shape, cut.ragged) == ((13, WIDTH), Ragged(0, offset=1))
    assert [other.ragged for other in cut.others] == [None]
    assert find_cut(find_cuts(Texts(), tokens(12)), "encoder.layers.0").ragged is None


def test_channels_in_front_of_the_length() -> None:
    model = nn.Sequential(
        nn.Conv1d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 4, 3, padding=1), nn.AdaptiveAvgPool1d(1)
    )
    cuts = find_cuts(model, torch.randn(4, 3, 12), other=torch.randn(4, 3, 9))
    assert [(cut.label, cut.shape, cut.ragged) for cut in cuts] == [
        ("0", (8, 12), Ragged(1)),
        ("1", (8, 12), Ragged(1)),
    ]


def strided(*layers: nn.Module) -> nn.Module:
    last = nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 2)
    return nn.Sequential(nn.Conv1d(3, 8, 1), *layers, *last)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=3), st.data())
def test_how_long_features_are_behind_strides_is_told(layers: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """The formula of each convolution, one after the other, is the oracle."""
    model = strided(*(nn.Conv1d(8, 8, kernel, stride, padding=min(p, kernel // 2)) for kernel, stride, p in layers))
    lengths = tuple(sorted(data.draw(st.sets(st.integers(40, 90), min_size=2, max_size=20))))
    other = OtherLengths(torch.randn(2, 3, lengths[-1]), lengths, lambda length: torch.randn(2, 3, length))
    for cut in find_cuts(model, torch.randn(4, 3, lengths[0]), other=other)[: len(layers) + 1]:
        for length in lengths:
            expected = length
            for kernel, stride, padding in layers[: int(cut.name)]:
                expected = (expected + 2 * min(padding, kernel // 2) - kernel) // stride + 1
            assert (cut.shape[1] if cut.ragged is None else cut.ragged.of(length)) == expected


def test_two_lengths_tell_the_simplest_stride() -> None:
    model = strided(nn.Conv1d(8, 8, 3, 2, 1), nn.MaxPool1d(2))
    cuts = find_cuts(model, torch.randn(4, 3, 12), other=torch.randn(4, 3, 24))
    assert [(cut.label, cut.ragged) for cut in cuts[:3]] == [
        ("0", Ragged(1)),
        ("1", Ragged(1, 0, 2)),
        ("2", Ragged(1, 0, 4)),
    ]


def test_what_is_twice_as_long_is_no_cut() -> None:
    model = strided(nn.Upsample(scale_factor=2))
    labels = [cut.label for cut in find_cuts(model, torch.randn(4, 3, 12), other=torch.randn(4, 3, 8))]
    assert labels == ["0", "2"]
    assert "1" in [cut.label for cut in find_cuts(model, torch.randn(4, 3, 12))]


def test_a_model_that_needs_a_longer_input_is_not_shown_the_short_one() -> None:
    def batch(length: int) -> Tensor:
        return torch.randn(2, 3, length)

    cuts = find_cuts(strided(nn.Conv1d(8, 8, 9, 4)), batch(60), other=OtherLengths(batch(30), (5, 30, 60, 61), batch))
    ragged = cuts[1].ragged
    assert ragged is not None
    assert [ragged.of(length) for length in (5, 30, 60, 61)] == [0, 6, 13, 14]


@pytest.mark.parametrize("training", [pytest.param(False, marks=pytest.mark.slow), True])
def test_both_parts_take_any_length_behind_a_stride(training: bool) -> None:
    model = Strided()
    lengths = tuple(range(7, 25))
    other = OtherLengths(recordings(24), lengths, recordings)
    cuts = find_cuts(model, recordings(12), other=other)
    strides = [cut.ragged and (cut.ragged.offset, cut.ragged.stride) for cut in cuts]
    assert strides == [(-1, 2), (-1, 2), *[(1, 2)] * (len(cuts) - 2)]
    for cut in cuts:
        parts = divide(model, cut, recordings(12), other=other)
        for module in (model, *parts):
            module.train(training)
        for length in (7, 12, 33, 34):
            batch = recordings(length)
            torch.manual_seed(0)
            expected = model(*batch)
            torch.manual_seed(0)
            assert torch.equal(parts[1](parts[0](*batch)), expected)


class ByInput(nn.Module):
    """Behind its stride it reads how long the input was."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv1d(3, 8, 2, 2), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.stem(x).sum(2) / x.shape[2])
        return scores


def test_a_suffix_that_asks_how_long_the_input_was_is_refused() -> None:
    def batch(length: int) -> Tensor:
        return torch.randn(2, 3, length)

    other, model = OtherLengths(batch(24), tuple(range(7, 25)), batch), ByInput()
    (cut,) = find_cuts(model, batch(12), other=other)
    with pytest.raises(InvalidCutError, match="differs from the model's"):
        divide(model, cut, batch(12), other=other)


class WithAdditiveMask(Texts):
    """A module of its own makes the mask, [B, 1, 1, L]: behind a first layer it crosses beside the features."""

    def __init__(self) -> None:
        super().__init__()
        self.mask, self.stages = nn.Linear(1, 1), nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        x, mask = self.tokens(tokens), self.mask(padding[:, None, None, :, None].float())[..., 0]
        for stage in self.stages:
            y = stage(x)
            x = x + torch.softmax(y @ y.mT + mask[:, 0], -1) @ y
        scores: Tensor = self.last(x.mean(1))
        return scores


def test_a_mask_that_a_module_gives_is_not_handed_on() -> None:
    model = WithAdditiveMask()
    fixed = find_cuts(model, tokens(12), max_tensors=3)
    assert any(len(cut.tensors) > 1 and not cut.others[0].is_argument for cut in fixed)
    for cut in find_cuts(model, tokens(12), max_tensors=3, other=tokens(9)):
        assert all(other.is_argument or (other.shape, other.ragged) == ((12, WIDTH), Ragged(0)) for other in cut.others)


def test_a_suffix_for_one_length_takes_no_other() -> None:
    model = Texts()
    cut = find_cut(find_cuts(model, tokens(12)), "encoder.layers.0")
    prefix, suffix = divide(model, cut, tokens(12))
    with pytest.raises(ArgumentError, match=r"features of \[N, 12, 16\]"):
        suffix(prefix(*tokens(9)))


def test_lengths_are_seen_where_one_dimension_differs() -> None:
    assert lengths_of(tokens(12), tokens(9)) == (12, 9)
    assert lengths_of(recordings(12), recordings(9)) == (12, 9)
    assert lengths_of(tokens(12), tokens(12)) is None
    assert lengths_of(torch.zeros(2, 3, 4), torch.zeros(2, 4, 5)) is None


def text_encoder(name: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes: dict[str, Any] = {
        "vocab_size": 40,
        "hidden_size": WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    special = {f"{kind}_token_id": number for number, kind in enumerate(("pad", "bos", "eos", "cls", "sep"))}
    own: dict[str, dict[str, Any]] = {
        "Electra": {**sizes, "embedding_size": WIDTH},
        "Albert": {**sizes, "embedding_size": WIDTH},
        "DistilBert": {"vocab_size": 40, "dim": WIDTH, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
        "DebertaV2": {**sizes, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
        "ModernBert": {**sizes, **special, "attn_implementation": "eager"},
        "T5": {"vocab_size": 40, "d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2},
    }
    config = getattr(transformers, f"{name}Config")(**own.get(name, sizes))
    made: nn.Module = getattr(transformers, "T5EncoderModel" if name == "T5" else f"{name}Model")(config)
    return made


class Classified(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.last = body, nn.Linear(WIDTH, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        scores: Tensor = self.last(mean_of(tokens, attention_mask == 0))
        return scores


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["Bert", "Roberta", "Electra", "Albert", "DistilBert", "MPNet", "DebertaV2", "ModernBert", "T5"]
)
def test_masks_that_a_model_makes_of_its_mask_input_cost_no_cut(name: str) -> None:
    def batch(length: int) -> dict[str, Tensor]:
        ids, padding = tokens(length)
        return {"input_ids": ids.clamp(min=5), "attention_mask": (~padding).long()}

    model = Classified(text_encoder(name))
    fixed, ragged = (find_cuts(model, batch(12), **told) for told in ({}, {"other": batch(20)}))
    assert len(fixed) > 3
    assert [cut.label for cut in ragged] == [cut.label for cut in fixed]
    cut = ragged[len(ragged) // 2]
    prefix, suffix = (part.eval() for part in divide(model, cut, batch(12), other=batch(20)))
    given = batch(33)
    assert torch.equal(suffix(prefix(**given)), model.eval()(**given))
