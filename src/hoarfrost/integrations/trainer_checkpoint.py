"""A checkpoint of transformers' Trainer that a freezer's state lies in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import PreTrainedModel, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from ..checkpoints import load_tree
from ..errors import CheckpointError

__all__ = ["FILE", "load_renamed", "saved_in"]

FILE = "hoarfrost.safetensors"
"""In each checkpoint's folder, beside the optimizer's state."""


def saved_in(checkpoint: Path) -> dict[str, Any]:
    """What was decided, and the updates made.

    Raises:
        CheckpointError: nothing of that was saved.
    """
    if not (checkpoint / FILE).exists():
        raise CheckpointError(
            f"{checkpoint} holds no {FILE}: it was saved by a Trainer without Hoarfrost, or with "
            "save_only_model. Load its weights, from_pretrained(checkpoint), and begin a training with them"
        )
    made = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)).global_step
    return {**load_tree(checkpoint / FILE), "made": made}


def load_renamed(checkpoint: str | None, model: Any) -> bool:
    """Load weights that were saved under other names than the model's, as `save_pretrained` does for a ViT, say: the
    Trainer leaves them out with a warning (transformers' issue 48805). Whether there were such."""
    if checkpoint is None or not isinstance(model, PreTrainedModel):
        return False
    held: set[str] = set()
    for path in Path(checkpoint).glob("model*.safetensors"):
        with safe_open(path, "pt") as file:
            held |= set(file.keys())
    if held <= set(model.state_dict()):
        return False
    model.load_state_dict(type(model).from_pretrained(checkpoint, config=model.config).state_dict())
    return True
