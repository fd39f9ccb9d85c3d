"""What a cache of features was made from. What is hashed when, and why, stands in docs/design/fingerprint.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..augment import forked_random_states
from ..cache import Cache, CacheSpec, Fingerprint, hash_tensors
from ..cuts import Precision, Prefix, acting_modules, called, count_of, own_name, taken
from ..freezing import Division
from ..provenance import code_of, describe_module
from ..samples import Look, TrainingData, Way
from .numerics import numerics_of

__all__ = ["CHOICES", "Content", "Origin", "event_of", "fingerprint_of", "origin_of", "way_of"]

CHOICES = ("tensor", "call", "built", "cut", "order", "views", "codec", "precision")
"""Fields that say which cache is meant; the others, what it was made from."""


@dataclass(frozen=True)
class Origin:
    """Of a cache that was built from another one's features, not from images.

    Attributes:
        cache: the other's digest.
        event: the epoch before which the other's renditions were drawn; this one shows the same.
    """

    cache: str
    event: int


@dataclass(frozen=True)
class Content:
    """What features are made from, as it is now.

    Attributes:
        fields: of a fingerprint.
        noted: beside them, of which a difference does not always mean another content.
        look: what was seen of the samples.
    """

    fields: dict[str, Any]
    noted: dict[str, Any]
    look: Look

    @classmethod
    def now(cls, division: Division, data: TrainingData) -> Content:
        """Looks at the prefix, runs it on the example images twice, and looks at the data set."""
        look = data.samples.identity.look()
        fields = {
            "weights": hash_tensors({own_name(name): value for name, value in division.prefix.state_dict().items()}),
            **_prefix(division.prefix, data),
            "samples": len(data.samples),
            "data": look.data,
            "transform": data.samples.pipeline.to_config(),
            "targets": look.targets,
        }
        noted = {"numerics": numerics_of(data.on_device.device), "output": fields.pop("output")}
        return cls(fields, noted | ({} if look.noted_times is None else {"times": look.noted_times}), look)


def _prefix(prefix: Prefix, data: TrainingData) -> dict[str, Any]:
    """Of its modules, their code, and what it gives for the example images."""
    # Fewer at first: what a module keeps of its last call, or counts, is then another, and none of its settings.
    few = taken(data.example, max(1, count_of(data.example) // 2))
    # A model of the user's may draw in front of the cut.
    with forked_random_states(), torch.random.fork_rng(_gpus(data)), torch.no_grad(), prefix.hooks_apart():
        modules = acting_modules(prefix, lambda: called(prefix, few))
        first = _described(prefix, modules)
        outputs = prefix.cut.rows_of(called(prefix, data.example))
    again = _described(prefix, modules)
    settled = {
        name: {key: value for key, value in told.items() if again[name].get(key, again) == value}
        for name, told in first.items()
    }
    return {
        "modules": settled,
        "code": code_of([], modules=modules.values()),
        "output": {"hash": hash_tensors({str(n): t for n, t in enumerate(outputs)}), "sums": _sums(outputs)},
    }


def _described(prefix: Prefix, modules: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By the model's own names. What belongs to the parts of a divided model is no attribute of the user's."""
    own = {name: prefix.whole.get_submodule(name) for name in modules}
    return {
        own_name(name) or "(model)": describe_module(module, {"train", *own[name]._parameters, *own[name]._buffers})
        for name, module in modules.items()
    }


def _sums(tensors: Sequence[Tensor]) -> list[list[float | None]]:
    """Of each tensor its root mean square, and sums under four patterns of signs, as large as a single value."""
    drawn = torch.Generator().manual_seed(0)
    made = []
    for tensor in tensors:
        flat = tensor.detach().cpu().double().flatten()
        signs = torch.randint(0, 2, (4, len(flat)), generator=drawn, dtype=torch.int8).double() * 2 - 1
        sums = [float(flat.square().mean().sqrt()), *((signs @ flat) / math.sqrt(len(flat))).tolist()]
        made.append([value if math.isfinite(value) else None for value in sums])
    return made


def _gpus(data: TrainingData) -> list[torch.device]:
    device = data.on_device.device
    return [device] if device.type == "cuda" else []


def fingerprint_of(
    division: Division,
    data: TrainingData,
    spec: CacheSpec,
    way: Way,
    base: str,
    tensor: int = 0,
    origin: Origin | None = None,
    call: int = 0,
    content: Content | None = None,
) -> Fingerprint:
    """All that shapes the features which `spec` describes.

    Args:
        way: how further views are derived.
        base: what the base view is, "random" or "clean".
        tensor: which of those that cross the cut.
        origin: what they are built from; None: images.
        call: which call of the model for each sample.
        content: what they are made from; None: as that is now.
    """
    crossing, pipeline = division.cut.rows[tensor], data.samples.pipeline
    event = division.event if origin is None else origin.event
    precision = division.precision or Precision.around(data.on_device.device)
    which = {"tensor": {"source": str(crossing.source), "number": crossing.number}} if tensor else {}
    content = Content.now(division, data) if content is None else content
    return Fingerprint(
        {
            **which,
            **({"call": call} if call else {}),
            **({} if origin is None else {"built": asdict(origin)}),
            "cut": division.cut.label,
            "order": {
                "seed": data.order.seed,
                "chunk_size": data.order.chunk_size,
                **({"members": "neighbours"} if data.order.neighbours else {}),
            },
            "views": {
                "event": event if pipeline.is_random else 0,
                "base": base,
                **({"further": "mirrored"} if data.renditions.mirrors else {}),
                "border": way.border,
                "form": way.form,
                "stored": [view.to_config() for view in spec.stored],
            },
            "codec": spec.codec.to_config(),
            "precision": {
                "dtype": str(spec.dtype),
                "autocast": precision.plain(),
                "channels_last": spec.channels_last,
            },
            **content.fields,
        },
        content.noted,
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
