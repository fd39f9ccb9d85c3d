"""Texts and audio frames of differing lengths, what pads them, and small encoders that take them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

WIDTH, CLASSES, BANDS = 16, 3, 6
Item = dict[str, Any]


def encoder(layers: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def mean_of(x: Tensor, padding: Tensor) -> Tensor:
    return x.masked_fill(padding[..., None], 0).sum(1) / (~padding).sum(1, keepdim=True)


class Texts(nn.Module):
    """Tokens with a mask of their padding; the mean of the rest is classified."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(40, WIDTH), nn.Embedding(80, WIDTH)
        self.encoder, self.last = encoder(layers), nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        # Counted from a text's own beginning, on whichever side it is padded.
        place = ((~padding).cumsum(1) - 1).clamp(min=0)
        x = self.encoder(self.tokens(tokens) + self.positions(place), src_key_padding_mask=padding)
        scores: Tensor = self.last(mean_of(x, padding))
        return scores


class Unmasked(Texts):
    """It never looks at the mask."""

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        return super().forward(tokens, torch.zeros_like(padding))


class Frames(nn.Module):
    """Frames [B, T, F] and how many of them there are; a learned token in front."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.project, self.first = nn.Linear(BANDS, WIDTH), nn.Parameter(torch.randn(1, 1, WIDTH))
        self.put_in_front = nn.Identity()
        self.encoder, self.last = encoder(layers), nn.Linear(WIDTH, CLASSES)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        x = torch.cat([self.first.expand(len(frames), 1, WIDTH), self.project(frames)], 1)
        padding = torch.arange(x.shape[1], device=x.device) > lengths[:, None]
        x = self.encoder(self.put_in_front(x), src_key_padding_mask=padding)
        scores: Tensor = self.last(x[:, 0])
        return scores


class Strided(Frames):
    """Half as many steps as there are frames, rounded down: a convolution that reaches over no sample's end."""

    def __init__(self, layers: int = 3, padding: int = 0) -> None:
        super().__init__(layers)
        self.stem, self.padding = nn.Conv1d(BANDS, BANDS, 3, 2, padding), padding

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        steps = (lengths + 2 * self.padding - 3) // 2 + 1
        return super().forward(self.stem(frames.mT).relu().mT, steps)


class LengthsFirst(Frames):
    """It takes what its collate adds in front of its main input, whose last axis is the long one."""

    def forward(self, lengths: Tensor, bands: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(bands.mT, lengths)


def texts(samples: int = 60, seed: int = 0, shortest: int = 5, longest: int = 60) -> list[Item]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, longest + 1, (samples,), generator=generator).tolist()
    labels = torch.randint(CLASSES, (samples,), generator=generator).tolist()
    drawn = [torch.randint(1, 13, (length,), generator=generator) for length in lengths]
    return [
        {"tokens": (tokens + 13 * label).tolist(), "label": label, "id": number}
        for number, (tokens, label) in enumerate(zip(drawn, labels, strict=True))
    ]


def frames(samples: int = 60, seed: int = 0, shortest: int = 5, longest: int = 60) -> list[Item]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "frames": torch.randn(len(item["tokens"]), BANDS, generator=generator) + item["label"],
            "label": item["label"],
            "id": item["id"],
        }
        for item in texts(samples, seed, shortest, longest)
    ]


def beside(items: list[Item]) -> Item:
    return {name: torch.tensor([item[name] for item in items]) for name in ("label", "id")}


def padding_collate(items: list[Item]) -> Item:
    """Texts padded to the longest, with a mask that the items do not have."""
    tokens = pad_sequence([torch.tensor(item["tokens"]) for item in items], batch_first=True)
    lengths = torch.tensor([len(item["tokens"]) for item in items])
    padding = torch.arange(tokens.shape[1]) >= lengths[:, None]
    return {"tokens": tokens, "padding": padding, **beside(items)}


def padding_in_front(items: list[Item]) -> Item:
    """The same, padded on the other side."""
    tokens = pad_sequence([torch.tensor(item["tokens"]) for item in items], batch_first=True, padding_side="left")
    lengths = torch.tensor([len(item["tokens"]) for item in items])
    padding = torch.arange(tokens.shape[1]) < tokens.shape[1] - lengths[:, None]
    return {"tokens": tokens, "padding": padding, **beside(items)}


def padding_to_eight(items: list[Item]) -> Item:
    """The same, to a multiple of eight."""
    batch = padding_collate(items)
    more = -batch["tokens"].shape[1] % 8
    wide = nn.functional.pad(batch["tokens"], (0, more)), nn.functional.pad(batch["padding"], (0, more), value=True)
    return {**batch, "tokens": wide[0], "padding": wide[1]}


def frames_collate(items: list[Item]) -> Item:
    return {
        "frames": pad_sequence([item["frames"] for item in items], batch_first=True),
        "lengths": torch.tensor([len(item["frames"]) for item in items]),
        **beside(items),
    }
