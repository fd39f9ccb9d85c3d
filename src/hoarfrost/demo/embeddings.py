"""The rival that most people pick first: embeddings that are computed once, and a logistic regression on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ArgumentError
from ..running import Journal, placed
from ..samples import Samples
from .story import Arm, Outcome, Story

__all__ = ["Embeddings", "logistic_regression", "run_on_embeddings"]


@dataclass(frozen=True)
class Embeddings(Arm):
    """An arm whose classifier is fitted by scikit-learn on what the rest of the network gives of one rendition.

    Args:
        classifier: the name of the model's last module.
    """

    classifier: str = "classifier"


def logistic_regression() -> Any:
    """scikit-learn's, as it comes, but for the iterations that it may take.

    Raises:
        ArgumentError: the extra is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ArgumentError(
            "the demo's fine-tuning story has a logistic regression of scikit-learn as a rival: "
            "pip install 'hoarfrost[demo]'"
        ) from error
    return LogisticRegression(max_iter=1000)


def run_on_embeddings(
    story: Story, arm: Embeddings, folder: Path, listener: Callable[[dict[str, Any]], None] | None = None
) -> Outcome:
    """Embed each training image once, moved as the story moves them, and fit a classifier on that."""
    rendering = story.config.rendering
    torch.manual_seed(rendering.seed)
    model = placed(story.make_model(), rendering).eval()
    setattr(model, arm.classifier, nn.Identity())
    regression = logistic_regression()
    with closing(Journal(arm.path(folder), listener=listener)) as journal:
        about = {"seed": rendering.seed, "policy": "embeddings", "cuts": [], "transform": []}
        journal.write({"event": "start", **story.start, "epochs": arm.epochs, **about})
        began = time.perf_counter()
        embedded, targets, flops = _embedded(model, story)
        regression.fit(embedded.numpy(), targets.numpy())
        seconds = time.perf_counter() - began
        setattr(model, arm.classifier, _linear(regression, len(embedded[0])))
        curve = {} if story.curve is None else {f"test_{name}": v for name, v in story.curve(model).items()}
        likely = torch.as_tensor(regression.predict_log_proba(embedded.numpy()))
        seen = {
            "loss": nn.functional.nll_loss(likely, targets).item(),
            "accuracy": (likely.argmax(1) == targets).double().mean().item(),
        }
        epoch = {"event": "epoch", "epoch": 0, "depth": 0, "cut": None, "source": "images", **seen}
        spent = {"seconds": seconds, "spent_seconds": seconds, "saved_seconds": 0.0, "watch_seconds": 0.0}
        spent |= {"images_per_second": len(embedded) / seconds}
        journal.write(
            {
                **epoch,
                **spent,
                "train_flops": flops,
                "cache_bytes": 0,
                "saved_seconds": 0.0,
                "watch_seconds": 0.0,
                **curve,
            }
        )
        on_plain, on_augmented = story.plain(model), story.augmented(model)
        ended = {"test_accuracy": on_plain["accuracy"], "augmented_accuracy": on_augmented["accuracy"]}
        wall = time.perf_counter() - began
        journal.write(
            {"event": "end", "seconds": seconds, "wall_seconds": wall, "test_loss": on_plain["loss"], **ended}
        )
    return Outcome(arm, tuple(journal.records))


@torch.no_grad()
def _embedded(model: nn.Module, story: Story) -> tuple[Tensor, Tensor, int]:
    """[N, D] of one rendition of the training images, their targets [N], and the FLOPs that it took."""
    rows, targets, flops = [], [], 0
    for images, labels in _batches(story):
        if not flops:
            with FlopCounterMode(display=False) as counter:
                model(images[:1])
            flops = counter.get_total_flops()
        rows.append(model(images))
        targets.append(labels)
    return torch.cat(rows), torch.cat(targets), flops * sum(map(len, rows))


def _batches(story: Story) -> Iterator[tuple[Tensor, Tensor]]:
    samples = Samples(story.train_set, story.train_transform, 0)
    with closing(samples):
        draw = samples.pipeline.draw(len(samples), story.config.rendering.seed)
        groups = list(torch.split(torch.arange(len(samples)), story.config.reading.batch_size))
        for images, targets in samples.batches(groups, draw):
            yield images.contiguous(memory_format=torch.channels_last), targets


def _linear(regression: Any, features: int) -> nn.Linear:
    """A regression of three classes or more as a layer."""
    layer = nn.Linear(features, len(regression.classes_))
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(regression.coef_))
        layer.bias.copy_(torch.as_tensor(regression.intercept_))
    return layer
