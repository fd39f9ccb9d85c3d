"""One (data, model, seed): trained once up to the freeze, then continued by every arm from the same state."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hoarfrost import Freezer

from . import subjects
from .arms import Arm
from .subjects import DATA, KINDS, Data, Kind

__all__ = ["SUBJECTS", "Plan", "Study"]

SUBJECTS = hashlib.blake2b(Path(str(subjects.__file__)).read_bytes(), digest_size=6).hexdigest()
"""What is trained: records of other data or models than today's are not this study's."""


@dataclass(frozen=True)
class Plan:
    """How much is trained and tested."""

    samples: int = 1_040
    tests: int = 5_200
    epochs: int = 18
    freeze: int = 6
    batch_size: int = 32

    @property
    def config(self) -> dict[str, int]:
        return asdict(self)


class Study:
    """The start that all arms share, and the arms."""

    def __init__(self, data: str, model: str, seed: int, plan: Plan) -> None:
        self.names = {"data": data, "model": model, "seed": seed}
        self.plan = plan
        self.seed = seed
        self.data: Data = DATA[data](plan.samples, plan.tests, seed)
        self.kind: Kind = KINDS[model]
        self.freeze, self.epochs = self.kind.patience * plan.freeze, self.kind.patience * plan.epochs
        self._tests = [
            (_rendered(self.data, augmented), torch.as_tensor(self.data.test.targets)) for augmented in (False, True)
        ]
        torch.manual_seed(seed)
        self._model = self.kind.build(self.data)
        self._optimizer = self.kind.optimizer(self._model.parameters())
        if self.freeze:
            self._train(self._model, self._optimizer, 0, self.freeze, {"policy": "none"})

    def run(self, arm: Arm) -> dict[str, Any]:
        """One record: accuracies after the last epoch, bytes, seconds."""
        model = copy.deepcopy(self._model)
        optimizer = self.kind.optimizer(model.parameters())
        # A copy: an optimizer takes over the tensors of a state as they are, and would train the next arm's momentum.
        optimizer.load_state_dict(copy.deepcopy(self._optimizer.state_dict()))
        options: dict[str, Any] = {"policy": "none"}
        if arm.frozen:
            options = {"policy": {0: self.kind.cut}, "mode": "cache", **arm.options}
        torch.manual_seed(self.seed + 1)
        began = time.perf_counter()
        history = self._train(model, optimizer, self.freeze, self.epochs, options)
        seconds = time.perf_counter() - began
        plain, augmented = (_accuracy(model, *test) for test in self._tests)
        freeze = next((record for record in history if record["event"] == "freeze"), {})
        chosen = next((rung for rung in freeze.get("rungs", []) if rung["chosen"]), {})
        last = [record for record in history if record["event"] == "epoch"][-1]
        return {
            **self.names,
            "arm": arm.name,
            "plan": self.plan.config,
            "subjects": SUBJECTS,
            "accuracy": plain,
            "augmented_accuracy": augmented,
            "seconds": seconds,
            "build_seconds": freeze.get("build_seconds"),
            "views": freeze.get("views", 0),
            "cache_bytes": last["cache_bytes"],
            "codec": chosen.get("codec"),
            "kl": chosen.get("kl"),
            "further": freeze.get("further"),
            "stored_channels": freeze.get("stored_channels"),
            "channels": len(freeze.get("sensitivity") or []) or None,
        }

    def _train(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Epochs first to last - 1 of one schedule: the rate rises in the first, then falls with a cosine."""
        peak = [group["lr"] if first == 0 else group["initial_lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, peak, strict=True):
            group["initial_lr"] = rate
        with Freezer(
            model,
            self.data.train,
            batch_size=self.plan.batch_size,
            epochs=last - first,
            transform=self.data.transform,
            optimizer=optimizer,
            seed=1_000 * self.seed + first,
            **options,
        ) as freezer:
            steps = freezer.batches_per_epoch * self.epochs
            step = freezer.batches_per_epoch * first
            for epoch in range(last - first):
                model.train()
                for inputs, targets in freezer.batches(epoch):
                    for group in optimizer.param_groups:
                        warm = min(1.0, (step + 1) / freezer.batches_per_epoch)
                        group["lr"] = group["initial_lr"] * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
                    loss = nn.functional.cross_entropy(freezer(inputs), targets)
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    step += 1
                freezer.end_epoch()
            return list(freezer.history)


def _rendered(data: Data, augmented: bool) -> Tensor:
    """The test images, as they are or each under one random rendition, the same for all arms and seeds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        transform = data.transform if augmented else data.plain
        return torch.stack([transform(data.test[i][0]) for i in range(len(data.test))])


@torch.no_grad()
def _accuracy(model: nn.Module, images: Tensor, targets: Tensor) -> float:
    model.eval()
    correct = 0
    for part, labels in zip(images.split(500), targets.split(500), strict=True):
        correct += int((model(part).argmax(1) == labels).sum())
    return correct / len(targets)
