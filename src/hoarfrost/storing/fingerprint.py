"""What a cache of features was made from."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from ..cache import Cache, CacheSpec, Fingerprint, hash_tensors
from ..cuts import Precision, own_name
from ..freezing import Division
from ..samples import TrainingData, Way

__all__ = ["Origin", "event_of", "fingerprint_of", "origin_of", "way_of"]


@dataclass(frozen=True)
class Origin:
    """Of a cache that was built from another one's features, not from images.

    Attributes:
        cache: the other's digest.
        event: the epoch before which the other's renditions were drawn; this one shows the same.
    """

    cache: str
    event: int


def fingerprint_of(
    division: Division,
    data: TrainingData,
    spec: CacheSpec,
    way: Way,
    base: str,
    tensor: int = 0,
    origin: Origin | None = None,
    call: int = 0,
) -> Fingerprint:
    """All that shapes the features which `spec` describes.

    Args:
        way: how further views are derived.
        base: what the base view is, "random" or "clean".
        tensor: which of those that cross the cut.
        origin: what they are built from; None: images.
        call: which call of the model for each sample.
    """
    crossing, pipeline = division.cut.rows[tensor], data.samples.pipeline
    event = division.event if origin is None else origin.event
    precision = division.precision or Precision.around(data.on_device.device)
    which = {"tensor": {"source": str(crossing.source), "number": crossing.number}} if tensor else {}
    return Fingerprint(
        {
            **which,
            **({"call": call} if call else {}),
            **({} if origin is None else {"built": asdict(origin)}),
            "prefix": hash_tensors({own_name(name): value for name, value in division.prefix.state_dict().items()}),
            "cut": division.cut.label,
            "samples": len(data.samples),
            "data": data.samples.identity,
            "transform": pipeline.to_config(),
            "order": {"seed": data.order.seed, "chunk_size": data.order.chunk_size},
            "views": {
                "event": event if pipeline.is_random else 0,
                "base": base,
                "border": way.border,
                "form": way.form,
                "stored": [view.to_config() for view in spec.stored],
            },
            "codec": spec.codec.to_config(),
            "precision": {
                "dtype": str(spec.dtype),
                "autocast": precision.plain(),
                "float32": torch.get_float32_matmul_precision(),
                "device": data.on_device.device.type,
                "channels_last": spec.channels_last,
            },
        }
    )


def origin_of(cache: Cache) -> Origin | None:
    """What a cache was built from; None for images."""
    built = cache.fingerprint.fields.get("built")
    return None if built is None else Origin(built["cache"], built["event"])


def event_of(division: Division, cache: Cache) -> int:
    """The epoch before which a cache's renditions were drawn."""
    origin = origin_of(cache)
    return division.event if origin is None else origin.event


def way_of(cache: Cache) -> Way:
    """How the cache's derived views are made."""
    views = cache.fingerprint.fields["views"]
    return Way(views["border"], views["form"])
