from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hoarfrost.cache import hash_samples, hash_tensors
from hoarfrost.errors import ArgumentError


def image(colour: int = 3, mode: str = "RGB", size: tuple[int, int] = (4, 3)) -> Image.Image:
    return Image.new(mode, size, colour)


def test_the_order_and_strides_of_tensors_do_not_matter() -> None:
    a, b = torch.arange(6.0).view(2, 3), torch.ones(3, dtype=torch.bfloat16)
    assert hash_tensors({"a": a, "b": b}) == hash_tensors([("b", b), ("a", a)])
    assert hash_tensors({"a": a.T}) == hash_tensors({"a": a.T.contiguous()})
    assert hash_tensors({"a": a}) == hash_tensors({"a": a.clone().requires_grad_()})


DIFFERENT = [
    {"a": torch.zeros(4)},
    {"b": torch.zeros(4)},
    {"a": torch.zeros(2, 2)},
    {"a": torch.zeros(4, dtype=torch.int32)},
    {"a": torch.zeros(8, dtype=torch.float16)},
    {"a": torch.tensor(0.0)},
    {"a": torch.tensor([0.0, 0.0, 0.0, -0.0])},
    {"a": torch.zeros(2), "b": torch.zeros(2)},
    {"a": torch.zeros(4, dtype=torch.bool)},
    {"a": torch.zeros(2, dtype=torch.complex64)},
    {"a": torch.zeros(0)},
    {},
]


def test_names_dtypes_shapes_and_bits_matter() -> None:
    assert len({hash_tensors(named) for named in DIFFERENT}) == len(DIFFERENT)


def test_a_conjugate_view_hashes_as_its_values() -> None:
    values = torch.tensor([1 + 2j, 3 - 1j])
    assert hash_tensors({"a": values.conj()}) == hash_tensors({"a": values.conj().resolve_conj()})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_device_does_not_matter() -> None:
    a = torch.randn(5, dtype=torch.bfloat16)
    assert hash_tensors({"a": a.cuda()}) == hash_tensors({"a": a})


def test_what_is_no_dense_tensor_is_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match="tensor 'w' is no dense tensor"):
        hash_tensors({"w": [1.0]})  # type: ignore[dict-item]
    with pytest.raises(ArgumentError, match="'w' is no dense tensor"):
        hash_tensors({"w": torch.zeros(2, device="meta")})
    with pytest.raises(ArgumentError, match="the tensor name 'w' comes twice"):
        hash_tensors([("w", torch.zeros(1)), ("w", torch.ones(1))])


SAMPLES = [
    [image()],
    [image(4)],
    [image(3, "L")],
    [image(size=(3, 4))],
    [(image(), 1)],
    [(image(), 2)],
    [image(), 1],
    [torch.zeros(3)],
    [np.zeros(3)],
    [np.zeros(3, np.float32)],
    [np.float64(0)],
    [b"abc"],
    ["abc"],
    [b"ab", b"c"],
    [b"a", b"bc"],
    [1],
    [1.0],
    [True],
    [None],
    [],
    [[]],
    [((1,), 2)],
    [(1, (2,))],
    [{"x": 1}],
    [{"y": 1}],
]


def test_samples_that_differ_hash_differently() -> None:
    assert len({hash_samples(items) for items in SAMPLES}) == len(SAMPLES)


def test_equal_samples_hash_equally() -> None:
    for items in SAMPLES:
        assert hash_samples(items) == hash_samples(iter(items))
    array = np.arange(12).reshape(3, 4)
    assert hash_samples([array.T]) == hash_samples([array.T.copy()])
    assert hash_samples([{"a": 1, "b": 2}]) == hash_samples([{"b": 2, "a": 1}])


def test_the_palette_of_an_image_counts() -> None:
    red, blue = image(0, "P"), image(0, "P")
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    assert hash_samples([red]) != hash_samples([blue])


@pytest.mark.parametrize(
    "item",
    [object(), {1, 2}, np.array([object()]), {1: 2}, lambda: 0],
    ids=["object", "set", "array of objects", "numbered", "function"],
)
def test_anything_else_is_refused_by_its_place(item: object) -> None:
    with pytest.raises(ArgumentError, match=r"sample 1\[1\]"):
        hash_samples([0, (0, item)])
