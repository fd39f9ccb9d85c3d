"""Trainings on inputs of differing lengths: a model, its items, their collate and a cut, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hoarfrost import Freezer
from shared.ragged import (
    CLASSES,
    WIDTH,
    Frames,
    Item,
    Strided,
    Texts,
    frames,
    frames_collate,
    padding_collate,
    padding_in_front,
    padding_to_eight,
    texts,
)
from shared.runs import step_losses


def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=CLASSES,
        max_position_embeddings=64,
    )
    model: nn.Module = transformers.BertForSequenceClassification(config)
    return model


def bert_texts(samples: int = 60, seed: int = 0) -> list[Item]:
    return [{"input_ids": item.pop("tokens"), "labels": item["label"], **item} for item in texts(samples, seed)]


def bert_collate(items: list[Item]) -> Item:
    batch = padding_collate([{**item, "tokens": item["input_ids"]} for item in items])
    mask = (~batch.pop("padding")).long()
    return {"input_ids": batch.pop("tokens"), "attention_mask": mask, "labels": batch["label"], **batch}


def wave() -> nn.Module:
    """Raw audio, a step for each 10 samples of it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Wav2Vec2Config(
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8, 8),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
        num_labels=CLASSES,
        layerdrop=0.0,
        mask_time_prob=0.0,
    )
    model: nn.Module = transformers.Wav2Vec2ForSequenceClassification(config)
    return model


def waves(samples: int = 60, seed: int = 0) -> list[Item]:
    return [
        {"input_values": item["frames"][:, 0], "labels": item["label"], **item}
        for item in frames(samples, seed, 40, 400)
    ]


def wave_collate(items: list[Item]) -> Item:
    batch = frames_collate([{**item, "frames": item["input_values"]} for item in items])
    mask = (torch.arange(batch["frames"].shape[1]) < batch.pop("lengths")[:, None]).long()
    return {"input_values": batch.pop("frames"), "attention_mask": mask, "labels": batch["label"], **batch}


def called(call: Callable[..., Any], batch: Item) -> Any:
    """The loss, of a model's own or of its scores."""
    output = call(**{name: value for name, value in batch.items() if name not in ("label", "id")})
    return output.loss if "labels" in batch else nn.functional.cross_entropy(output, batch["label"])


@dataclass(frozen=True)
class Kind:
    model: Callable[[], nn.Module]
    data: Callable[..., list[Item]]
    collate: Callable[[list[Item]], Item]
    cut: str
    main: str


KINDS = {
    "texts": Kind(Texts, texts, padding_collate, "encoder.layers.1", "tokens"),
    "padded in front": Kind(Texts, texts, padding_in_front, "encoder.layers.1", "tokens"),
    "padded to eight": Kind(Texts, texts, padding_to_eight, "encoder.layers.0", "tokens"),
    "frames": Kind(Frames, frames, frames_collate, "encoder.layers.1", "frames"),
    "strided": Kind(Strided, frames, frames_collate, "encoder.layers.0", "frames"),
    "strided, at the stem": Kind(Strided, frames, frames_collate, "stem", "frames"),
    "wave": Kind(wave, waves, wave_collate, "wav2vec2.feature_extractor", "input_values"),
    "bert": Kind(bert, bert_texts, bert_collate, "bert.encoder.layer.1", "input_ids"),
}


def freezer_of(kind: Kind, folder: Path, data: Any = None, model: nn.Module | None = None, **told: Any) -> Freezer:
    if model is None:
        torch.manual_seed(0)
        model = kind.model().train()
    settings: dict[str, Any] = {
        "batch_size": 8,
        "epochs": 4,
        "policy": {1: kind.cut},
        "collate_fn": kind.collate,
        "mode": "cache",
        "ladder": "exact",
        "cache_dir": folder,
        "verbose": False,
        "optimizer": torch.optim.SGD(model.parameters(), 0.1),
        **told,
    }
    return Freezer(model, kind.data() if data is None else data, **settings)


def train(freezer: Freezer, epochs: range = range(4), seed: int = 1) -> list[float]:
    return step_losses(freezer, lambda batch: called(freezer, batch), epochs, seed)
