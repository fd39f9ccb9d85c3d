"""Two processes whose cache_dir is a URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoarfrost.cache import RemoteCaches
from shared.distributed_runs import at_a_url, together
from shared.runs import assert_same_tensors


@pytest.mark.slow
def test_one_rank_publishes_and_each_fetches_its_share(tmp_path: Path) -> None:
    for rank in together(2, at_a_url, tmp_path / "ranks", tmp_path):
        for name in ("published", "read"):
            assert rank[name]["losses"] == rank["recomputed"]["losses"]
            assert_same_tensors(rank[name]["weights"], rank["recomputed"]["weights"])
            assert not [entry for entry in rank[name]["history"] if entry["event"] in ("heal", "fault")]
        assert rank["runs"] == []
    assert [found.state for found in RemoteCaches(f"file://{tmp_path}/far").caches()] == ["ready", "ready"]
