"""Hashes of weights and samples, from their bytes. Nothing is pickled: a pickle changes with versions and
reloads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from xxhash import xxh3_128

from ..errors import ArgumentError
from .dtypes import name_of

__all__ = ["digest_item", "hash_samples", "hash_tensors"]

_LARGE = 1 << 20
_Update = Callable[[Any], None]


def hash_tensors(named_tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> str:
    """sha256 over names, dtypes, shapes and bytes, sorted by name, so that neither order, device nor
    strides matter.

    Raises:
        ArgumentError: a value is no dense tensor, or a name comes twice.
    """
    pairs = list(named_tensors.items() if isinstance(named_tensors, Mapping) else named_tensors)
    names = sorted(name for name, _ in pairs)
    for before, after in pairwise(names):
        if before == after:
            raise ArgumentError(f"the tensor name {before!r} comes twice")
    digest = hashlib.sha256()
    for name, tensor in sorted(pairs, key=lambda pair: pair[0]):
        _text(digest.update, name)
        _tensor(digest.update, tensor, f"tensor {name!r}")
    return digest.hexdigest()


def hash_samples(items: Iterable[Any]) -> str:
    """sha256 over samples in order: PIL images, tensors, numpy arrays, bytes, str, numbers, None, and
    tuples, lists and string-keyed dicts of these.

    Raises:
        ArgumentError: anything else; names its position and kind.
    """
    digest = hashlib.sha256()
    for position, item in enumerate(items):
        _item(digest.update, item, f"sample {position}")
    return digest.hexdigest()


def digest_item(item: Any, nbytes: int = 8) -> bytes:
    """The first bytes of an XXH3 of one sample, as `hash_samples` reads it: enough against chance, not against malice.

    Each sample of a build gets one: of small images a cryptographic hash took a tenth of the build.

    Raises:
        ArgumentError: likewise.
    """
    digest = xxh3_128()
    _item(digest.update, item, "a sample")
    return digest.digest()[:nbytes]


def _text(update: _Update, text: str) -> None:
    # Every part is preceded by its length, so that no two sequences of parts run together into the same
    # bytes.
    data = text.encode("utf-8", "surrogatepass")
    update(b"%d:" % len(data))
    update(data)


def _tensor(update: _Update, tensor: Any, what: str) -> None:
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise ArgumentError(f"{what} is no dense tensor with data: {type(tensor).__name__}")
    _text(update, f"{name_of(tensor.dtype)}{tuple(tensor.shape)}")
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    update(flat.view(torch.uint8).numpy().data)


def _item(update: _Update, item: Any, what: str) -> None:
    if item is None or isinstance(item, bool | int | float | str):
        _text(update, f"{type(item).__name__} {item!r}")
    elif isinstance(item, bytes | bytearray | memoryview):
        data = bytes(item)
        _text(update, f"bytes {len(data)}")
        update(data)
    elif isinstance(item, Image.Image):
        _text(update, f"image {item.mode} {item.size}")
        update(item.tobytes())
        # The pixels of a palette image are indices: two images may share them and differ in colours.
        if item.mode in ("P", "PA"):
            _text(update, f"palette {item.getpalette()} {item.info.get('transparency')!r}")
    elif isinstance(item, Tensor):
        _text(update, "tensor")
        _tensor(update, item, what)
    elif isinstance(item, np.ndarray | np.generic):
        array = np.ascontiguousarray(item)
        if array.dtype.hasobject:
            raise ArgumentError(f"{what} is a numpy array of objects, which have no bytes to hash")
        _text(update, f"array {array.dtype.str} {np.shape(item)}")
        # Large ones without a copy; the small ones may be of any kind.
        update(array.reshape(-1).view(np.uint8).data if array.nbytes > _LARGE else array.tobytes())
    elif isinstance(item, tuple | list):
        _text(update, f"sequence {len(item)}")
        for place, part in enumerate(item):
            _item(update, part, f"{what}[{place}]")
    elif isinstance(item, Mapping) and all(isinstance(key, str) for key in item):
        _text(update, f"mapping {len(item)}")
        for key in sorted(item):
            _text(update, key)
            _item(update, item[key], f"{what}[{key!r}]")
    else:
        raise ArgumentError(
            f"{what} is a {type(item).__name__}; hashed are PIL images, tensors, numpy arrays, bytes, str, numbers, "
            "None, and tuples, lists or dicts of these"
        )
