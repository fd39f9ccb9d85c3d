from __future__ import annotations

from pathlib import Path

import torch

from shared.small_cache import Stand, prefix


def test_the_prefix_source_gives_the_prefix_of_the_live_rendition(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    block = stand.prefix.load(1, 4)
    rendered, targets = stand.samples.images(stand.order.members(1), stand.renditions.live(4))
    with torch.no_grad():
        assert torch.equal(block.features.dense(), prefix()(rendered))
    assert torch.equal(block.targets, targets)
