"""Whether ladder="auto" does no harm to training, whatever the outputs are for.

Measures: `--part tasks`: the loss on other data at the end of a training (root mean squared error of a regression; of
classifiers the accuracy too), at ladder="auto" and "exact", their ratio seed by seed, and the rung and its harm.
`--part heads`: a front that was trained before, frozen under a new head before the first epoch: the rung that is
measured then, its harm behind the first epoch and at the end, the rungs that would be measured there, and the loss and
accuracy at the end of the training with the first rung, with that of the trained head, and exact. In both, beside it,
the rung that the divergence of the softmax alone takes, whatever the outputs are for and however little the head has
learned.
On: synthetic images 1x24x24 of a blob and a grating, and sequences of 24 frames; small nets, frozen after a third of
the epochs up to the middle; for the heads the same (fronts trained on half of the classes), and with `--photos`
EfficientNet-Lite0 with its ImageNet weights, frozen up to blocks.9, on embedded Fashion-MNIST images at 64 pixels.
Repeats: `--seeds` seeds, of data, weights and order. One thread. Runs that `--out` holds are not repeated.

    python benchmarks/harm_by_task.py --part tasks --seeds 3
    python benchmarks/harm_by_task.py --part heads --seeds 3
    python benchmarks/harm_by_task.py --part heads --task none --photos --samples 1500 --epochs 4
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.codecs import Classes, Codec, evaluating, task_of
from hoarfrost.data import open_data
from hoarfrost.models import efficientnet_lite0
from hoarfrost.settings import Storing
from hoarfrost.storing import calibrate
from measuring.record import write_record
from measuring.shown import shown

SIDE, CLASSES, STATES = 24, 6, 5


@dataclass(frozen=True)
class Task:
    """A training.

    Attributes:
        data: (seed, samples) -> inputs and targets.
        net: without the front's weights.
        loss: as the loop has it.
        told: the `criterion` that the freezer is given; None: it tells from the targets.
        rooted: whether the root of the loss is shown.
        softmax: of the outputs, where they have one.
        one_class: whether each sample has one, so that accuracy is measured.
    """

    data: Callable[[int, int], Dataset[Any]]
    net: Callable[[], nn.Module]
    loss: Callable[[Any, Tensor], Tensor]
    told: Callable[..., Tensor] | None = None
    rooted: bool = False
    softmax: Classes | None = None
    one_class: bool = False
    cut: str = "1"
    rate: float = 2e-3


@dataclass(frozen=True)
class Scenes:
    """Images of a blob and a grating [N, 1, 24, 24], and what they show."""

    images: Tensor
    classes: Tensor
    values: Tensor
    pixels: Tensor

    @classmethod
    def of(cls, seed: int, samples: int) -> Scenes:
        made = torch.Generator().manual_seed(seed)
        drawn = torch.rand(samples, 8, generator=made)
        x, y, size, bright, turn, often, strong, phase = drawn.T[:, :, None, None]
        down, right = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
        blob = torch.exp(-((right - x).square() + (down - y).square()) / (2 * (0.05 + 0.15 * size).square()))
        along = right * (math.pi * turn).cos() + down * (math.pi * turn).sin()
        grating = ((6 + 14 * often) * along + 2 * math.pi * phase).sin()
        images = (0.4 + 0.6 * bright) * blob + (0.1 + 0.2 * strong) * grating
        images = images + 0.05 * torch.randn(images.shape, generator=made)
        pixels = torch.where(blob > 0.5, 1, torch.where(grating > 0.5, 2, 0))
        angle = math.pi * drawn[:, 4:5]
        values = torch.cat([drawn[:, :4], (2 * angle).cos(), (2 * angle).sin(), drawn[:, 5:7]], 1)
        return cls(images[:, None], (drawn[:, 4] * CLASSES).long(), values, pixels)


def of_scenes(targets: Callable[[Scenes], Tensor]) -> Callable[[int, int], Dataset[Any]]:
    def data(seed: int, samples: int) -> Dataset[Any]:
        scenes = Scenes.of(seed, samples)
        return TensorDataset(scenes.images, targets(scenes))

    return data


def frames(seed: int, samples: int) -> Dataset[Any]:
    """Sequences [24, 8] of noisy frames, and the state behind each; it stays for a while."""
    made = torch.Generator().manual_seed(seed)
    states = torch.randint(STATES, (samples, SIDE // 4), generator=made).repeat_interleave(4, 1)
    looks = torch.randn(STATES, 8, generator=torch.Generator().manual_seed(0))
    return TensorDataset(looks[states] + 1.5 * torch.randn(samples, SIDE, 8, generator=made), states)


def block(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def vision(outputs: int) -> nn.Sequential:
    head = (nn.Flatten(), nn.Linear(32 * 9, 64), nn.ReLU(), nn.Linear(64, outputs))
    return nn.Sequential(block(1, 16), block(16, 32), block(32, 32), *head)


class Normalised(nn.Module):
    def forward(self, embeddings: Tensor) -> Tensor:
        return F.normalize(embeddings, dim=1)


def pixelwise() -> nn.Sequential:
    up = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)
    return nn.Sequential(block(1, 16), block(16, 32), block(32, 32, 1), up, nn.Conv2d(32, 3, 3, 1, 1))


def tokenwise() -> nn.Sequential:
    def layer() -> nn.Module:
        return nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)

    return nn.Sequential(nn.Linear(8, 32), layer(), layer(), nn.Linear(32, STATES))


def contrastive(embeddings: Tensor, classes: Tensor) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020), of the samples that have a like in the batch."""
    alone = torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    likeness = (embeddings @ embeddings.T / 0.2).masked_fill(alone, -1e9)
    same = (classes[:, None] == classes) & ~alone
    each = -(likeness.log_softmax(1) * same).sum(1) / same.sum(1).clamp(min=1)
    return each[same.any(1)].mean()


def of_tokens(scores: Tensor, states: Tensor) -> Tensor:
    return F.cross_entropy(scores.flatten(0, 1), states.flatten())


def embedding() -> nn.Sequential:
    return nn.Sequential(*vision(16), Normalised())


LABELS = of_scenes(lambda scenes: (scenes.values[:, [0, 1, 2, 3, 6, 7]] > 0.5).float())
TASKS = {
    "classification": Task(
        *(of_scenes(lambda scenes: scenes.classes), lambda: vision(CLASSES), F.cross_entropy),
        softmax=Classes(),
        one_class=True,
    ),
    "multi-label": Task(LABELS, lambda: vision(6), F.binary_cross_entropy_with_logits, softmax=Classes()),
    "regression, 1": Task(of_scenes(lambda s: s.values[:, :1]), lambda: vision(1), F.mse_loss, rooted=True),
    "regression, 8": Task(
        of_scenes(lambda scenes: scenes.values), lambda: vision(8), F.mse_loss, rooted=True, softmax=Classes()
    ),
    "embeddings": Task(of_scenes(lambda scenes: scenes.classes), embedding, contrastive, softmax=Classes()),
    "embeddings, own loss": Task(of_scenes(lambda scenes: scenes.classes), embedding, contrastive, contrastive),
    "segmentation": Task(of_scenes(lambda scenes: scenes.pixels), pixelwise, F.cross_entropy, softmax=Classes()),
    "token classification": Task(frames, tokenwise, of_tokens, softmax=Classes(-1)),
}


@dataclass(frozen=True)
class Trained:
    """How a training ended: its loss and accuracy on other data, and the rung, its harm, and what harm was measured
    on."""

    loss: float
    accuracy: float | None
    rung: str
    harm: float
    judged: str
    bytes_per_sample: float


def train(
    task: Task,
    seed: int,
    options: argparse.Namespace,
    *,
    ladder: str | Codec,
    frozen_at: int,
    front: nn.Module | None = None,
    watch: Callable[[Freezer, int], None] = lambda freezer, epoch: None,
    judged: Classes | None = None,
) -> Trained:
    """One training.

    Args:
        front: whose weights it begins with up to the cut.
        watch: called behind each epoch.
        judged: what harm is measured on, whatever the targets tell.
    """
    torch.manual_seed(seed)
    model = task.net()
    if front is not None:
        take_front(model, front, task.cut)
    optimizer = torch.optim.AdamW(model.parameters(), task.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    given = {"optimizer": optimizer, "mode": "cache", "views": 1, "ladder": ladder, "criterion": task.told}
    policy, data = {frozen_at: task.cut}, task.data(2 * seed, options.samples)
    told_or = task_of if judged is None else lambda *told: judged
    with (
        patch("hoarfrost.storing.calibration_sample.task_of", told_or),
        Freezer(
            model, data, batch_size=64, epochs=options.epochs, seed=seed, policy=policy, settle="last", **given
        ) as freezer,
    ):
        for epoch in range(options.epochs):
            model.train()
            for inputs, targets in freezer.batches(epoch):
                optimizer.zero_grad()
                task.loss(freezer(inputs), targets).backward()
                optimizer.step()
            freezer.end_epoch()
            schedule.step()
            watch(freezer, epoch)
        told = next(record for record in freezer.history if record["event"] == "freeze")
    chosen = next(rung for rung in told["rungs"] if rung["chosen"])
    loss, accuracy = tested(model, task, 2 * seed + 1, options.tests)
    return Trained(loss, accuracy, chosen["codec"], chosen["kl"], told["harm"], chosen["bytes_per_sample"])


def take_front(model: nn.Module, front: nn.Module, cut: str) -> None:
    """Put the weights of a model up to a cut into another."""
    last = max(n for n, name in enumerate(front.state_dict()) if name.startswith(f"{cut}."))
    model.load_state_dict(dict([*front.state_dict().items()][: last + 1]), strict=False)


def tested(model: nn.Module, task: Task, seed: int, samples: int) -> tuple[float, float | None]:
    """Loss and accuracy on other data."""
    data = task.data(seed, samples)
    losses, right = [], 0
    with evaluating(model):
        for inputs, targets in torch.utils.data.DataLoader(data, 256):
            outputs = model(inputs)
            losses.append(float(task.loss(outputs, targets)))
            right += int((outputs.argmax(1) == targets).sum()) if task.one_class else 0
    loss = statistics.fmean(losses)
    return loss**0.5 if task.rooted else loss, right / len(data) if task.one_class else None  # type: ignore[arg-type]


def by_tasks(options: argparse.Namespace, known: Collection[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for name in options.task or TASKS:
        task = TASKS[name]
        for seed in range(options.seeds):
            arms: dict[str, dict[str, Any]] = {"exact": {"ladder": "exact"}, "auto": {"ladder": "auto"}}
            if task.softmax is not None:
                arms["softmax"] = {"ladder": "auto", "judged": task.softmax}
            for arm, told in arms.items():
                if ("tasks", name, seed, arm) not in known:
                    found = train(task, seed, options, frozen_at=max(1, options.epochs // 3), **told)
                    yield {"part": "tasks", "task": name, "seed": seed, "arm": arm, **vars(found)}


def by_heads(options: argparse.Namespace, known: Collection[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    named = {name: task for name, task in TASKS.items() if options.task is None or name in options.task}
    if options.photos:
        named["EfficientNet-Lite0"] = Task(
            *(photos, lambda: efficientnet_lite0(10), F.cross_entropy),
            one_class=True,
            cut="blocks.9",
        )
    for name, task in named.items():
        for seed in range(options.seeds):
            if ("heads", name, seed, None) in known:
                continue
            front = None if task.cut != "1" else front_for(task, seed, options)
            later: list[Rechosen] = []

            def measure(freezer: Freezer, epoch: int, later: list[Rechosen] = later, task: Task = task) -> None:
                if epoch in (0, options.epochs - 1):
                    later.append(rechosen(freezer, task))

            given = {"frozen_at": 0, "front": front}
            first = train(task, seed, options, ladder="auto", watch=measure, **given)
            again = train(task, seed, options, ladder=later[-1].codec, **given)
            exact = train(task, seed, options, ladder="exact", **given)
            arms = {"first": vars(first), "again": vars(again), "exact": vars(exact)}
            if task.softmax is not None:
                arms["softmax"] = vars(train(task, seed, options, ladder="auto", judged=task.softmax, **given))
            behind = [{"rung": str(one.codec), "harm": one.harm} for one in later]
            yield {"part": "heads", "task": name, "seed": seed, **arms, "behind": behind}


@dataclass(frozen=True)
class Rechosen:
    """What would be chosen by the suffix as it is now, and the harm of what was."""

    codec: Codec
    harm: float


def rechosen(freezer: Freezer, task: Task) -> Rechosen:
    division, storing = freezer._front.division, Storing(views=1, mode="cache", harm=task.told or "auto")
    assert division is not None
    assert freezer.cache is not None
    stored = replace(storing, ladder=freezer.cache.spec.codec)
    rung = calibrate(division, freezer._data, storing).rung
    assert rung is not None
    return Rechosen(rung.codec, calibrate(division, freezer._data, stored).rungs[0].harm)


def front_for(task: Task, seed: int, options: argparse.Namespace) -> nn.Module:
    """A net of the same front, trained on half of the classes, or on half of the states."""
    torch.manual_seed(100 + seed)
    inputs, targets = task.data(1000 + seed, options.samples).tensors  # type: ignore[attr-defined]
    if task.data is not frames:
        scenes = Scenes.of(1000 + seed, options.samples)
        inputs, targets = scenes.images, scenes.classes
    few = targets < CLASSES // 2
    inputs, targets = (inputs, targets * few) if targets.dim() > 1 else (inputs[few], targets[few])
    model = task.net() if task.data is frames else vision(CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(options.epochs):
        for rows in torch.randperm(len(inputs)).split(64):
            if len(rows) < 2:
                continue
            loss = (of_tokens if targets.dim() > 1 else F.cross_entropy)(model(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def photos(seed: int, samples: int) -> Dataset[Any]:
    """Embedded images at 64 pixels; even seeds from the training set, odd ones from the test set."""
    shown = [v2.ToImage(), v2.Resize(64), v2.Grayscale(3), v2.ToDtype(torch.float32, scale=True)]
    source = open_data("embedded")
    data = source.test if seed % 2 else source.train
    data = data.first(min(samples, len(data)))
    data.transform = v2.Compose([*shown, v2.Normalize([0.5], [0.5])])
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("tasks", "heads"), default="tasks")
    parser.add_argument("--task", action="append", choices=[*TASKS, "none"])
    parser.add_argument("--photos", action="store_true", help="the heads also on EfficientNet-Lite0")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--tests", type=int, default=1024)
    parser.add_argument("--smoke", action="store_true", help="a few samples and epochs: only to see it run")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/harm_by_task.json"))
    options = parser.parse_args()
    if options.smoke:
        options.seeds, options.epochs, options.samples, options.tests = 1, 3, 128, 128
    torch.set_num_threads(1)
    records = json.loads(options.out.read_text())["records"] if options.out.exists() else []
    known = {(one["part"], one["task"], one["seed"], one.get("arm")) for one in records}
    for record in (by_tasks if options.part == "tasks" else by_heads)(options, known):
        records.append({**record, "samples": options.samples, "epochs": options.epochs})
        write_record(options.out, options, records=records)
        print({name: value for name, value in record.items() if name != "part"}, flush=True)
    print(shown(f"harm {options.part}", options.out))


if __name__ == "__main__":
    main()
