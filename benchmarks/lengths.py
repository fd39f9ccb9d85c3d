"""Texts of differing lengths, padded batch by batch, against the same texts padded to one length beforehand.

Measures: bytes of the stored features for each token (exact); the share of padding in batches, as they are before and
behind the freeze; by how much outputs on stored features differ from those of the whole model on the user's own padded
batch (relative to the largest, the worst over an epoch, in eval); processor milliseconds to read a batch and train the
rest on it.
On: an encoder of six layers of random weights with a mask, frozen behind the fourth; texts of 5 to 60 tokens, drawn
evenly; the CPU.
Repeats: `--epochs` behind the freeze, of which the shortest counts.

    python benchmarks/lengths.py --samples 2000 --width 128 --epochs 3
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import hoarfrost
from measuring.record import write_record

SHORTEST, LONGEST, CLASSES, WORDS = 5, 60, 4, 500
CUT = "layers.layers.3"
Items = list[dict[str, Any]]


class Encoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(LONGEST, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True)
        self.layers, self.last = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        x = self.words(tokens) + self.places.weight[: tokens.shape[1]]
        x = self.layers(x, src_key_padding_mask=padding).masked_fill(padding[..., None], 0)
        scores: Tensor = self.last(x.sum(1) / (~padding).sum(1, keepdim=True))
        return scores


def texts(samples: int) -> Items:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (samples,), generator=generator).tolist()
    drawn = [torch.randint(1, WORDS, (length,), generator=generator) for length in lengths]
    return [{"tokens": words, "label": len(words) % CLASSES, "number": n} for n, words in enumerate(drawn)]


def padded(items: Items) -> dict[str, Tensor]:
    tokens = pad_sequence([item["tokens"] for item in items], batch_first=True)
    beside = {name: torch.tensor([item[name] for item in items]) for name in ("label", "number")}
    return {"tokens": tokens, "padding": tokens == 0, **beside}


def padded_to_one(items: Items) -> dict[str, Tensor]:
    batch = padded(items)
    more = (0, LONGEST - batch["tokens"].shape[1])
    tokens = nn.functional.pad(batch["tokens"], more)
    return {**batch, "tokens": tokens, "padding": tokens == 0}


def measured(collate: Any, data: Items, width: int, epochs: int, folder: str) -> dict[str, float]:
    torch.manual_seed(0)
    model = Encoder(width).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    freezer = hoarfrost.Freezer(
        model,
        data,
        batch_size=32,
        collate_fn=collate,
        epochs=None,
        policy={0: CUT},
        mode="cache",
        ladder="exact",
        optimizer=optimizer,
        cache_dir=folder,
        verbose=False,
    )
    seconds, waste = [], 0.0
    for epoch in range(epochs):
        began, shown, steps = time.process_time(), 0, 0
        for batch in freezer.batches(epoch):
            logits = freezer(batch["tokens"], batch["padding"])
            nn.functional.cross_entropy(logits, batch["label"]).backward()
            optimizer.step()
            optimizer.zero_grad()
            shown, steps = shown + batch["padding"].numel(), steps + 1
        seconds.append((time.process_time() - began) / steps)
        freezer.end_epoch()
        waste = 1 - sum(len(item["tokens"]) for item in data) / shown
    cache = freezer.cache
    if cache is None:
        raise SystemExit("nothing was stored")
    model.eval()
    apart = 0.0
    with torch.no_grad():
        for batch in freezer.batches(epochs):
            own = collate([data[number] for number in batch["number"]])
            whole = model(own["tokens"], own["padding"])
            found = freezer(batch["tokens"], batch["padding"])
            apart = max(apart, float((found - whole).abs().max() / whole.abs().max()))
    live = sum(batch["padding"].numel() for batch in freezer._data.live(0))
    tokens = sum(len(item["tokens"]) for item in data)
    size = (cache.path / "features.bin").stat().st_size
    freezer.close()
    return {
        "bytes a token": size / tokens,
        "padding before": 1 - tokens / live,
        "padding behind": waste,
        "outputs differ by": apart,
        "ms a batch": 1000 * min(seconds[1:] or seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/lengths.json"))
    options = parser.parse_args()
    data = texts(options.samples)
    found = {}
    for name, collate in (("padded to one length", padded_to_one), ("padded batch by batch", padded)):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measured(collate, data, options.width, options.epochs, folder)
    names = list(next(iter(found.values())))
    print(f"| texts | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for name, row in found.items():
        print(f"| {name} | {' | '.join(f'{row[each]:.3g}' for each in names)} |")
    write_record(options.out, options, texts=found)


if __name__ == "__main__":
    main()
