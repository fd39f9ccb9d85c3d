"""Recordings of different lengths, as frames [T, F] of a spectrogram: which of four sounds is heard in each?

Items are mappings; the collate pads each batch to its longest recording and says how long each one is. Behind a freeze
features stand under `frames`, stored without padding and padded like the batch. All synthetic: nothing is downloaded.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

import hoarfrost
from three_ways import Outcome, three_ways

SOUNDS, BANDS, WIDTH = 4, 40, 32
CUT, TRAINED = "encoder.layers.2", 2  # what is frozen (three of four layers), and after how many epochs


def make_data(samples: int, seed: int) -> list[dict]:
    """A tone that rises through a fourth of the bands, somewhere in noise of 15 to 60 frames."""
    generator = torch.Generator().manual_seed(seed)
    items = []
    for label in torch.randint(SOUNDS, (samples,), generator=generator).tolist():
        length = int(torch.randint(15, 61, (), generator=generator))
        frames, steps = torch.randn(length, BANDS, generator=generator), torch.arange(10)
        frames[int(torch.randint(length - 9, (), generator=generator)) + steps, 10 * label + steps] += 3.0
        items.append({"frames": frames, "label": label})
    return items


def padded(items: list[dict]) -> dict:
    frames, labels = [item["frames"] for item in items], [item["label"] for item in items]
    lengths = torch.tensor([len(each) for each in frames])
    return {"frames": pad_sequence(frames, True), "lengths": lengths, "label": torch.tensor(labels)}


class Listener(nn.Module):
    """An encoder that looks at no padding; the largest of what it gives is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.places = nn.Linear(BANDS, WIDTH), nn.Embedding(60, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.classify = nn.Linear(WIDTH, SOUNDS)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        places = torch.arange(frames.shape[1], device=frames.device)
        padding = places >= lengths[:, None]
        x = self.encoder(self.project(frames) + self.places(places), src_key_padding_mask=padding)
        return self.classify(x.masked_fill(padding[..., None], -torch.inf).amax(1))


def as_it_was(model: nn.Module, data: Dataset, epochs: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    loader = DataLoader(data, batch_size=32, shuffle=True, collate_fn=padded)
    for _ in range(epochs):
        for batch in loader:
            logits = model(batch["frames"], batch["lengths"])
            nn.functional.cross_entropy(logits, batch["label"]).backward()
            optimizer.step()
            optimizer.zero_grad()


def with_hoarfrost(model: nn.Module, data: Dataset, epochs: int, mode: str) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    told = {"batch_size": 32, "collate_fn": padded, "policy": {TRAINED: CUT}, "mode": mode}
    freezer = hoarfrost.Freezer(model, data, epochs=epochs, optimizer=optimizer, **told)  # changed
    for epoch in range(epochs):
        for batch in freezer.batches(epoch):  # changed
            logits = freezer(batch["frames"], batch["lengths"])  # changed
            nn.functional.cross_entropy(logits, batch["label"]).backward()
            optimizer.step()
            optimizer.zero_grad()
        freezer.end_epoch()  # new
    freezer.close()


def accuracy(model: nn.Module, data: Dataset) -> float:
    batches = DataLoader(data, 64, collate_fn=padded)
    return sum(int((model(b["frames"], b["lengths"]).argmax(1) == b["label"]).sum()) for b in batches) / len(data)


def main(samples: int = 400, epochs: int = 8) -> dict[str, Outcome]:
    train, test = make_data(samples, seed=0), make_data(200, seed=1)
    return three_ways(
        Listener,
        lambda model: as_it_was(model, train, epochs),
        lambda model, mode: with_hoarfrost(model, train, epochs, mode),
        lambda model: accuracy(model, test),
        "accuracy",
    )


if __name__ == "__main__":
    main()
