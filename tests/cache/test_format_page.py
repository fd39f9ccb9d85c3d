"""docs/format.md is right: its reader, as printed, reads what the library writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cache_cases import disk, make_ragged, make_spec, places, row

from hoarfrost.cache import CacheSpec
from hoarfrost.codecs import BFloat16, Bounded, Exact, FirstTokens, Half, Linear, Shared

PAGE = Path(__file__).parents[2] / "docs" / "format.md"
SPECS = [
    *(make_spec(codec=Linear(bits)) for bits in range(1, 9)),
    make_spec(codec=Linear(4), channels_last=True),
    make_spec(codec=Linear(2), dtype=torch.float16),
    *(make_spec(codec=Shared(levels)) for levels in (2, 3, 7, 20, 256)),
    make_spec(codec=Shared(40), channels_last=True),
    make_spec(codec=Shared(9), dtype=torch.float16),
    CacheSpec(6, 4, (7, 6), torch.float32, 2, False, Shared(90, finer=(0, 3, 5, 12, 1, 4)), (None, (1, 4))),
    CacheSpec(6, 4, (7, 6), torch.float32, 2, False, Shared(12), (None, (1, 4))),
    make_spec(codec=Bounded(0.05)),
    make_spec(codec=Exact()),
    make_spec(codec=Exact(), dtype=torch.bfloat16),
    make_spec(codec=Exact(), dtype=torch.float64, channels_last=True),
    make_spec(codec=Half()),
    make_spec(codec=BFloat16(), channels_last=True),
    CacheSpec(6, 4, (7, 6), torch.float32, 2, False, Linear(4), (None, (1, 4))),
    CacheSpec(6, 4, (9,), torch.float32, 1, False, Linear(1), (None,)),
    *(make_ragged(codec) for codec in (Linear(4), Shared(20), Exact(), FirstTokens(2, Shared(20)))),
    CacheSpec(
        6, 4, (7, 6), torch.float32, 2, False, FirstTokens(2, Shared(9, finer=(0, 3, 5, 1, 1, 4))), (None, (1, 4))
    ),
    CacheSpec(6, 4, (7, 6), torch.bfloat16, 2, False, FirstTokens(9, Linear(4), Half()), (None,)),
    make_spec(codec=FirstTokens(1, Linear(4)), channels_last=True),
]


def printed_reader() -> Any:
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    return names["read"]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.codec} {s.dtype} {s.channels_last} {s.shape}")
def test_the_printed_reader_reads_every_record(spec: CacheSpec, tmp_path: Path) -> None:
    cache, read = disk(tmp_path, spec), printed_reader()
    cache.heal(0, 0, row(spec, 0, 0)[4])
    for chunk, view in places(spec):
        features, targets, ids = read(cache.path, chunk, view)
        expected = cache.read(chunk, view)
        assert ids == expected.sample_ids.tolist()
        assert targets.tolist() == expected.targets.tolist()
        dense = expected.features()
        assert torch.equal(torch.from_numpy(np.array(features)).to(dense.dtype), dense)


def test_the_printed_reader_sees_damage(tmp_path: Path) -> None:
    cache, read = disk(tmp_path), printed_reader()
    for name in ("features.bin", "targets.bin"):
        path = cache.path / name
        whole = path.read_bytes()
        path.write_bytes(whole[:8] + bytes(b ^ 1 for b in whole[8:]))
        with pytest.raises(AssertionError, match="damaged"):
            read(cache.path, 0, 0)
        path.write_bytes(bytes(8) + whole[8:])
        with pytest.raises(AssertionError, match="a file of another cache"):
            read(cache.path, 0, 0)
        path.write_bytes(whole)


@pytest.mark.parametrize("spec", [make_spec(), make_ragged()], ids=["of one shape", "of differing lengths"])
def test_the_page_names_every_field_on_disk(spec: CacheSpec, tmp_path: Path) -> None:
    page, cache = PAGE.read_text(), disk(tmp_path, spec)
    for name in ("format", "version", "id", "fingerprint", "digest", "targets", "totals", "sha256"):
        assert f"`{name}`" in page
    assert all(f"`spec.{name}`" in page for name in cache.spec.to_config())
    line = (cache.path / "journal.jsonl").read_text().split("\n")[0]
    assert set(re.findall(r'"(\w+)":', line)) <= set(re.findall(r'"(\w+)":', page))
