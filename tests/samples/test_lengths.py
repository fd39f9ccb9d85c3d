"""What differs in length is stored without padding, and gets it back: inverses, and what is measured of a collate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hoarfrost.samples.dataset import Samples
from hoarfrost.samples.lengths import padded, unpadded
from hoarfrost.samples.parcel import Parcel
from shared.ragged import (
    Item,
    Texts,
    frames,
    frames_collate,
    padding_collate,
    padding_in_front,
    padding_to_eight,
    texts,
)

lengths_of_samples = st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(any)


@settings(max_examples=60, deadline=None)
@given(lengths_of_samples, st.integers(0, 3), st.integers(0, 2), st.booleans())
def test_padding_is_the_inverse_of_leaving_it_out(lengths: list[int], more: int, axis: int, at_end: bool) -> None:
    sizes, length = torch.tensor(lengths), max(lengths) + more
    shape = [2, 3]
    shape.insert(axis, length)
    whole = torch.arange(1.0, 1 + len(lengths) * 6 * length).view(len(lengths), *shape)
    rows = unpadded(whole, axis, sizes, at_end)
    assert rows.shape == (sum(lengths), 2, 3)
    again = padded(rows, axis, sizes, length, at_end)
    assert again.shape == whole.shape
    for sample, (own, n) in enumerate(zip(whole, lengths, strict=True)):
        begin = length - n if at_end else 0
        assert torch.equal(again[sample].narrow(axis, begin, n), own.narrow(axis, begin, n))
        assert again[sample].count_nonzero() == 6 * n
    assert torch.equal(unpadded(again, axis, sizes, at_end), rows)


@pytest.mark.parametrize(
    ("data", "collate", "at_end", "multiple"),
    [
        (texts, padding_collate, False, 1),
        (texts, padding_in_front, True, 1),
        (texts, padding_to_eight, False, 8),
        (frames, frames_collate, False, 1),
    ],
    ids=["texts", "in front", "to eight", "frames"],
)
def test_lengths_and_sides_are_measured(data: Any, collate: Any, at_end: bool, multiple: int) -> None:
    items = data(40)
    found = Samples(items, collate=collate, told=("tokens" if data is texts else "frames")).lengths
    assert found is not None
    own = [len(item["tokens" if data is texts else "frames"]) for item in items]
    assert found.own.tolist() == [[-(-length // multiple) * multiple for length in own]]
    assert (found.axis, found.at_end) == (1, at_end)


def test_batches_of_one_length_are_not_ragged() -> None:
    def to_sixty(items: list[Item]) -> Item:
        return padding_collate([*items, {"tokens": [0] * 60, "label": 0, "id": 0}]) | {
            name: value[:-1] for name, value in padding_collate([*items, texts(1, shortest=60)[0]]).items()
        }

    assert Samples(texts(40), collate=to_sixty, model=Texts()).lengths is None
    assert Samples(texts(40, shortest=60), collate=padding_collate, model=Texts()).lengths is None


def test_a_mask_that_the_collate_adds_is_an_argument() -> None:
    assert Samples(texts(20), collate=padding_collate, model=Texts()).form.arguments == ("tokens", "padding")


def test_other_lengths_are_another_data_set() -> None:
    one = texts(200)
    other = [dict(item) for item in one]
    other[1]["tokens"] = other[1]["tokens"] + [1]  # none of those that are hashed
    hashes = [Samples(data, collate=padding_collate, model=Texts()).identity for data in (one, one, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_stand_in_travels_as_one_number() -> None:
    held = torch.full((), 0.5).expand(1000, 1000)
    parcel = Parcel([{"frames": held}])
    assert len(parcel._packed) < 1000
    assert torch.equal(parcel.opened()[0]["frames"], held)
