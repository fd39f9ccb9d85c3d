"""Makes the predictor of `SmartFRZ`, and tells how well it judges architectures that it was not made from.

Runs:     small trainings, each model on each data set with each of two seeds and another optimizer and rate: three
          ResNets, a plain CNN, two ViTs, an MLP-Mixer on images (Fashion-MNIST's classes, and which way up an image
          is); two transformers on synthetic texts. Four times an epoch: 1,024 weights of each segment, and the features
          of 64 images at each cut.
Labels:   a segment has settled where the linear CKA between its features and those of the finished model, from that
          snapshot on over 20 (or to the end, but for the last 5), is above 0.3 with a variance below 1e-4. As in Li et
          al. 2024 (arXiv 2401.16720), who do not say on which side of the snapshot the window lies.
Measures: on architectures that are held out whole, one family at a time: accuracy, balanced accuracy, the precision of
          "freeze", and how much of what has settled is found; beside "never", and the best single threshold on the
          relative step of the weights (chosen on the families trained on).
Repeats:  one training of the predictor for each held-out family; histories of one and of four snapshots an epoch.

    python benchmarks/smartfrz.py --out src/hoarfrost/policies/smartfrz.safetensors
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from hoarfrost import find_cuts
from hoarfrost.data import open_data
from hoarfrost.models import cifar_resnet
from hoarfrost.policies.predictor import FEATURES, HISTORY, Predictor, tokens
from hoarfrost.policies.smartfrz import LEAST, WEIGHTS
from hoarfrost.running import cosine
from hoarfrost.watching import Observer, centred_gram, linear_cka
from measuring.record import write_record
from measuring.shown import shown

OFTEN = 4
"""Snapshots an epoch."""
WINDOW, END = 20, 5


class Tokens(nn.Module):
    """Blocks on tokens, and a mean over them."""

    def __init__(self, embed: nn.Module, places: int, width: int, blocks: list[nn.Module], classes: int) -> None:
        super().__init__()
        self.embed, self.places = embed, nn.Parameter(0.02 * torch.randn(places, width))
        self.blocks, self.out = nn.Sequential(*blocks), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.embed(x)
        tokens = embedded.flatten(2).transpose(1, 2) if embedded.dim() == 4 else embedded
        out: Tensor = self.out(self.blocks(tokens + self.places).mean(1))
        return out


class Mixing(nn.Module):
    """A block of an MLP-Mixer."""

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across = nn.Sequential(nn.Linear(places, 2 * places), nn.GELU(), nn.Linear(2 * places, places))
        self.along = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.first(x).transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = x + self.along(self.second(x))
        return mixed


def attention(width: int, count: int) -> list[nn.Module]:
    return [
        nn.TransformerEncoderLayer(width, 4, 2 * width, 0.1, batch_first=True, norm_first=True) for _ in range(count)
    ]


def plain(classes: int) -> nn.Module:
    def block(come: int, go: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(come, go, 3, 2, 1), nn.ReLU())

    return nn.Sequential(block(1, 16), block(16, 24), block(24, 32), nn.Flatten(), nn.Linear(32 * 16, classes))


def vit(width: int, count: int) -> Callable[[int], nn.Module]:
    return lambda classes: Tokens(nn.Conv2d(1, width, 7, 7), 16, width, attention(width, count), classes)


def mixer(classes: int) -> nn.Module:
    return Tokens(nn.Conv2d(1, 32, 7, 7), 16, 32, [Mixing(16, 32) for _ in range(3)], classes)


def reader(width: int, count: int) -> Callable[[int], nn.Module]:
    return lambda classes: Tokens(nn.Embedding(200, width), 24, width, attention(width, count), classes)


FAMILIES: dict[str, list[Callable[[int], nn.Module]]] = {
    "ResNet": [lambda classes, w=w: cifar_resnet(classes, 1, w) for w in ((8, 16, 32), (16, 16, 16), (12, 24, 48))],  # type: ignore[misc]
    "plain CNN": [plain],
    "ViT": [vit(32, 3), vit(48, 4)],
    "MLP-Mixer": [mixer],
    "text transformer": [reader(32, 3), reader(48, 2)],
}


def data_of(name: str, count: int, seed: int) -> tuple[Tensor, Tensor, int]:
    """Inputs [N, ...], targets [N], and the number of classes."""
    made = torch.Generator().manual_seed(seed)
    if name == "texts":
        # Each class has words of its own, one in five of a text.
        targets = torch.randint(0, 6, (count,), generator=made)
        words = torch.randint(0, 200, (count, 24), generator=made)
        own = 30 * targets[:, None] + torch.randint(0, 12, (count, 24), generator=made)
        return torch.where(torch.rand(count, 24, generator=made) < 0.2, own, words), targets, 6
    data = open_data("embedded").train.first(count)
    images = torch.stack([torch.as_tensor(data.images[n]) for n in range(count)]).float().reshape(count, 1, 28, 28)
    images = (images / 255 - 0.286) / 0.353
    if name == "classes":
        return images, torch.tensor([int(target) for target in data.targets[:count]]), 10
    turns = torch.randint(0, 4, (count,), generator=made)
    turned = [torch.rot90(image, int(turn), (1, 2)) for image, turn in zip(images, turns, strict=True)]
    return torch.stack(turned), turns, 4


@dataclass
class Run:
    """One training: weights [S, P] of each segment, and whether it has settled, [S], at each snapshot."""

    family: str
    histories: list[Tensor]
    settled: list[Tensor]
    epochs: int


def trained(family: str, make: Callable[[int], nn.Module], data: str, seed: int, told: argparse.Namespace) -> Run:
    torch.manual_seed(seed)
    inputs, targets, classes = data_of(data, told.samples, seed)
    model, steps = make(classes), -(-len(inputs) // 50)
    optimizer: torch.optim.Optimizer
    if family in ("ResNet", "plain CNN") and seed == 0:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1 if family == "ResNet" else 0.03, momentum=0.9)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=(2e-3, 1e-3)[seed % 2])
    rate, total = cosine(), steps * told.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: rate(done / total))
    cuts = find_cuts(model, inputs[:8])
    observer = Observer(
        model, cuts, inputs[:8], probe=lambda: inputs[:64], optimizer=None, epochs=told.epochs, steps=steps
    )
    weights: list[list[Tensor]] = [[] for _ in observer.segments[:-1]]
    grams: list[tuple[Tensor, ...]] = []
    taken = {round(n * total / (OFTEN * told.epochs)) for n in range(1, OFTEN * told.epochs + 1)}
    done = 0
    for _ in range(told.epochs):
        model.train()
        for ids in torch.randperm(len(inputs)).split(50):
            optimizer.zero_grad()
            shifted = inputs[ids]
            if shifted.dim() == 4 and data == "classes" and torch.rand(()) < 0.5:
                shifted = shifted.flip(3)
            F.cross_entropy(model(shifted), targets[ids]).backward()
            optimizer.step()
            schedule.step()
            done += 1
            if done in taken:
                for number, kept in enumerate(weights):
                    kept.append(observer.weights(number, WEIGHTS))
                grams.append(observer.activations(lambda cut, features: centred_gram(features)))
    finished = grams[-1]
    settled = []
    for number in range(len(weights)):
        alike = torch.tensor([linear_cka(gram[number], finished[number]) for gram in grams])
        settled.append(torch.tensor([steady(alike[n : n + WINDOW]) for n in range(len(alike) - END)]))
    return Run(family, [torch.stack(kept) for kept in weights], settled, told.epochs)


def steady(alike: Tensor) -> bool:
    return bool(alike.var() < 1e-4 and alike.mean() > 0.3)


@dataclass
class Examples:
    """Padded histories [N, S, 5], which of them are known [N, S], labels [N], and the family of each."""

    histories: Tensor
    known: Tensor
    settled: Tensor
    families: list[str]

    def of(self, keep: Callable[[str], bool]) -> Examples:
        chosen = torch.tensor([keep(family) for family in self.families])
        kept = [family for family in self.families if keep(family)]
        return Examples(self.histories[chosen], self.known[chosen], self.settled[chosen], kept)


def examples_of(runs: list[Run]) -> Examples:
    histories, known, settled, families = [], [], [], []
    for run in runs:
        for weights, labels in zip(run.histories, run.settled, strict=True):
            for stride, end in itertools.product((1, OFTEN), range(len(labels))):
                past = weights[end % stride : end + 1 : stride][-HISTORY:]
                if len(past) < LEAST:
                    continue
                history = tokens(past, stride / (OFTEN * run.epochs))
                padding = HISTORY - len(history)
                histories.append(F.pad(history, (0, 0, padding, 0)))
                known.append(torch.arange(HISTORY) >= padding)
                settled.append(labels[end])
                families.append(run.family)
    return Examples(torch.stack(histories), torch.stack(known), torch.stack(settled).long(), families)


def fitted(examples: Examples, steps: int, seed: int) -> Predictor:
    torch.manual_seed(seed)
    predictor = Predictor()
    seen = examples.histories[examples.known]
    predictor.mean, predictor.scale = seen.mean(0), seen.std(0).clamp_min(1e-3)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    counts = torch.bincount(examples.settled, minlength=2).clamp_min(1)
    weight = len(examples.settled) / (2 * counts)
    for _ in range(steps):
        ids = torch.randint(0, len(examples.settled), (512,))
        loss = F.cross_entropy(
            predictor(examples.histories[ids], examples.known[ids]), examples.settled[ids], weight=weight
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return predictor.eval()


def scores(said: Tensor, settled: Tensor) -> dict[str, float]:
    yes, true = said.bool(), settled.bool()
    found, kept = (yes & true).sum() / true.sum().clamp_min(1), (~yes & ~true).sum() / (~true).sum().clamp_min(1)
    return {
        "accuracy": (yes == true).double().mean().item(),
        "balanced": ((found + kept) / 2).item(),
        "precision": ((yes & true).sum() / yes.sum().clamp_min(1)).item(),
        "found": found.item(),
    }


def threshold(examples: Examples) -> float:
    """On the logarithm of the last step's relative length: the one of the best balanced accuracy."""
    steps = examples.histories[:, -1, 1]
    tried = torch.quantile(steps, torch.linspace(0.01, 0.99, 99))
    return max(tried.tolist(), key=lambda at: scores(steps < at, examples.settled)["balanced"])


def judged(examples: Examples, told: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Each family by a predictor that has not seen it."""
    for family in dict.fromkeys(examples.families):
        rest, held = examples.of(lambda name, f=family: name != f), examples.of(lambda name, f=family: name == f)  # type: ignore[misc]
        predictor = fitted(rest, told.steps, 0)
        with torch.no_grad():
            said = predictor(held.histories, held.known).argmax(1)
        ways = {
            "predictor": said,
            "threshold": held.histories[:, -1, 1] < threshold(rest),
            "never": torch.zeros_like(held.settled),
        }
        for way, answer in ways.items():
            base = held.settled.double().mean().item()
            yield {"family": family, "way": way, "settled": base, "examples": len(said), **scores(answer, held.settled)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3_000, help="of the predictor's training")
    parser.add_argument("--smoke", action="store_true", help="two families, a few images and epochs")
    parser.add_argument("--out", type=Path, help="write the parameters here")
    parser.add_argument("--records", type=Path, default=Path("runs/benchmarks/smartfrz.json"))
    told = parser.parse_args()
    families = FAMILIES
    if told.smoke:
        told.samples, told.epochs, told.seeds, told.steps = 300, 3, 1, 20
        families = {"plain CNN": FAMILIES["plain CNN"], "text transformer": FAMILIES["text transformer"][:1]}
    torch.set_num_threads(1)
    runs = []
    for family, makes in families.items():
        for data in ("texts",) if family == "text transformer" else ("classes", "turns"):
            for make, seed in itertools.product(makes, range(told.seeds)):
                runs.append(trained(family, make, data, seed, told))
                shares = [f"{labels.double().mean():.0%}" for labels in runs[-1].settled]
                print(f"{family}, {data}, seed {seed}: settled {' '.join(shares)}", flush=True)
    examples = examples_of(runs)
    records = list(judged(examples, told))
    write_record(told.records, told, trainings=len(runs), records=records)
    print(shown("smartfrz", told.records))
    if told.out is not None:
        predictor = fitted(examples, told.steps, 0)
        assert predictor.mean.shape == (FEATURES,)
        save_file({name: value.contiguous() for name, value in predictor.state_dict().items()}, told.out)


if __name__ == "__main__":
    main()
