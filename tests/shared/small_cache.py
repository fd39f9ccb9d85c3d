"""A small cache of some views of a few images, and the source that reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hoarfrost import Cache, Exact, Linear, Views
from hoarfrost.augment import Grid
from hoarfrost.cache import CacheSpec, Fingerprint
from hoarfrost.codecs import Codec
from hoarfrost.feeding.cache_source import CacheSource
from hoarfrost.feeding.loading import Batch, feature_batches
from hoarfrost.samples import Deriver, OnDevice, Order, PrefixSource, Renditions, Samples
from hoarfrost.storing import Faults, StoredFeatures
from shared.images import RANDOM, images

N, CHUNK, KEPT = 40, 16, (0, 2)


def prefix() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU()).eval()


class Stand:
    """A cache of two views of forty images, and the source that reads it."""

    def __init__(self, root: Path, codec: Codec | None = None, views: Views | None = None, kept: Any = None) -> None:
        self.samples = Samples(images(N, RANDOM))
        self.order = Order(N, 0, CHUNK)
        self.views = views or Views(2)
        self.renditions = Renditions(self.samples, 0, self.views, self.order)
        count = self.views.count
        self.spec = CacheSpec(
            N, CHUNK, (3, 14, 14), torch.float32, 1, False, codec or Exact(), (None, *[kept] * (count - 1))
        )
        self.draws = [self.renditions.view(3, view) for view in range(count)]
        self.prefix = PrefixSource(
            prefix(),
            self.samples,
            self.order,
            self.spec,
            lambda chunk, epoch: self.renditions.live(epoch),
            OnDevice(torch.device("cpu")),
        )
        writer = Cache.create(root, Fingerprint({}), self.spec)
        for view, channels in enumerate(self.spec.view_channels):
            for chunk in range(self.order.chunks):
                features, targets = self.prefix.features(chunk, self.draws[view])
                stored = features if channels is None else features[:, list(channels)]
                writer.append(chunk, view, self.order.members(chunk), targets, stored)
        self.cache = writer.commit()
        self.healed: list[tuple[int, int, str]] = []
        self.faults: list[dict[str, Any]] = []
        self.source = CacheSource(
            stored=StoredFeatures(self.cache, Faults(self.faults.append)),
            order=self.order,
            views=self.views,
            event=3,
            renditions=self.renditions,
            deriver=Deriver(self.samples, self.order, Grid((28, 28), (14, 14)), "zeros"),
            healer=self.prefix,
            on_heal=lambda chunk, view, reason: self.healed.append((chunk, view, reason)),
        )

    def shown(self, chunk: int, epoch: int) -> Tensor:
        return self.source.load(chunk, epoch).features.dense()

    def overwrite(self) -> None:
        path = self.cache.path / "features.bin"
        path.write_bytes(bytes(path.stat().st_size))


CASES: dict[str, dict[str, Any]] = {
    "whole views": {},
    "partly stored views": {"kept": KEPT},
    "feature space": {"views": Views(1, derived=1.0)},
    "quantised": {"codec": Linear(4), "kept": KEPT},
}


def batches_of(stand: Stand, epoch: int, start: int = 0) -> list[Batch]:
    stand.source.begin()
    return [*feature_batches(stand.source, stand.order, stand.spec, epoch, 8, start=start)]
