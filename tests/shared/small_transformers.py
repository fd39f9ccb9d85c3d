"""Small models of transformers for images and for texts, and data that its Trainer takes."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset

SIZES = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}


class Images(Dataset[dict[str, Any]]):
    """Noise of 28 pixels, the classes in turn; counts how often an image is read."""

    def __init__(self, samples: int, classes: int) -> None:
        self.images = torch.randn(samples, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        self.classes, self.read = classes, 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read += 1
        return {"pixel_values": self.images[index], "labels": index % self.classes}


class Texts(Dataset[dict[str, Any]]):
    """Four to eight words, the classes in turn."""

    def __init__(self, samples: int, classes: int) -> None:
        self.samples, self.classes = samples, classes

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= self.samples:  # who measures lengths iterates over them
            raise IndexError(index)
        length = 4 + index % 5
        ids = [(7 * index + n) % 40 + 2 for n in range(length)]
        return {"input_ids": ids, "attention_mask": [1] * length, "labels": index % self.classes}


def padded(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A collator of texts."""
    longest = max(len(item["input_ids"]) for item in items)
    rows = {
        name: torch.tensor([item[name] + [0] * (longest - len(item[name])) for item in items])
        for name in ("input_ids", "attention_mask")
    }
    return {**rows, "labels": torch.tensor([item["labels"] for item in items])}


def vit(classes: int) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=28, patch_size=7, num_channels=1, num_labels=classes, **SIZES)
    config.hidden_dropout_prob = 0.1
    return transformers.ViTForImageClassification(config)


def bert(classes: int) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=16, num_labels=classes, **SIZES)
    return transformers.BertForSequenceClassification(config)
