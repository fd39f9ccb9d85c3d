"""The guide's own codec, as printed: registered, written to disk, read again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from cache_cases import disk, make_spec

from hoarfrost import Cache, Ladder
from hoarfrost.codecs import Codec, base, measure_rungs
from hoarfrost.errors import CodecError

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "cache.md"


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    (source,) = re.findall(r"```python\n(from dataclasses.*?)```", GUIDE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, str(GUIDE), "exec", dont_inherit=True), names)
    return names["Fixed"]


def test_a_cache_of_it_opens_by_its_name(fixed: Any, tmp_path: Path) -> None:
    class Positive(fixed):  # type: ignore[misc]
        """The cases' features are signed."""

        def encode(self, features: torch.Tensor, channel_axis: int = 1) -> bytes:
            return bytes(super().encode(features.abs().clamp(max=6), channel_axis))

    written = disk(tmp_path, make_spec(codec=Positive(0.05)))
    opened = Cache.open(written.path)
    assert opened.spec.codec == fixed(0.05)
    shown = opened.read(0, 0).features()
    assert torch.equal(shown, written.read(0, 0).features())
    assert float(shown.max()) > 0


def test_it_keeps_its_bound_and_refuses_the_rest(fixed: Any) -> None:
    features = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 6
    codec: Codec = fixed(0.05)
    decoded = codec.decode(codec.encode(features), features.shape, features.dtype)
    assert bool(((decoded - features).abs().amax((0, 2, 3)) <= codec.error_bound(features)).all())
    with pytest.raises(CodecError, match="from 0 to 6"):
        codec.encode(features - 1)


def test_on_a_ladder_it_is_passed_over_where_it_refuses(fixed: Any) -> None:
    features = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    rungs = measure_rungs(lambda x: x.flatten(1), features, Ladder([fixed(0.05), *Ladder.of(8)]))
    assert [rung.refused is None for rung in rungs] == [False, True]
