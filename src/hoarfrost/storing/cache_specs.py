"""What a cache of features holds, read off the features themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..cache import CacheSpec, StoredView
from ..codecs import Codec
from ..cuts import Crossing, Cut
from ..errors import NoCutError
from ..samples import Order

__all__ = ["feature_spec", "storable"]


def feature_spec(
    crossing: Crossing,
    features: Tensor,
    order: Order,
    codec: Codec,
    stored: tuple[StoredView, ...] = (StoredView(),),
    lengths: Tensor | None = None,
) -> CacheSpec:
    """What a cache of such features holds; shape and memory format are those that the prefix really gives.

    Args:
        lengths: of all samples, where they differ; features are [sum of lengths, ...] then.
    """
    return CacheSpec(
        samples=order.samples,
        chunk_size=order.chunk_size,
        shape=tuple(features.shape[1:]),
        dtype=features.dtype,
        channel_axis=features.dim() - 1 if crossing.layout in ("tokens", "NHWC") else 1,
        channels_last=lengths is None
        and features.dim() == 4
        and crossing.layout == "NCHW"
        and not features.is_contiguous()
        and features.is_contiguous(memory_format=torch.channels_last),
        codec=codec,
        stored=stored,
        total_length=None if lengths is None else int(lengths.sum()),
    )


def storable(cuts: Sequence[Cut], needed_by: nn.Module | None = None) -> tuple[Cut, ...]:
    """The cuts of which all that crosses can be stored: tensors with a row for each sample, and arguments that
    calls bring themselves.

    Raises:
        NoCutError: there is none, and this model needs one.
    """
    found = tuple(cut for cut in cuts if cut.shape and all(crossing.is_argument for crossing in cut.brought))
    if needed_by is not None and not found:
        raise NoCutError(
            f"{type(needed_by).__name__} has no place where it can be divided: in no module of it, outside of "
            "reentrant checkpoints (use_reentrant=False makes others), is the output the only tensor that the rest "
            'needs. Train it as it is, or with policy="none"'
        )
    return found
