"""sentence-transformers' trainer with a freezer in it: columns of texts of differing lengths, on features and on
tokens, across a resume, with losses of several kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hoarfrost.errors import ArgumentError, DatasetError

transformers = pytest.importorskip("transformers")
datasets = pytest.importorskip("datasets")
sentences = pytest.importorskip("sentence_transformers")
losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")

from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Pooling  # noqa: E402
from sentence_transformers.sentence_transformer.training_args import BatchSamplers  # noqa: E402

from hoarfrost.integrations.sentence_transformers import (  # noqa: E402
    FreezingMixin,
    FreezingTrainer,
    _digest_of,
)
from shared.small_transformers import SIZES  # noqa: E402
from shared.trainer_arguments import ARGUMENTS  # noqa: E402

N, EPOCHS = 26, 3
WORDS = ("rime", "frost", "ice", "snow", "hail", "sleet", "mist", "dew")
POLICY = {1: "0.model.encoder.layer.0", 2: "0.model.encoder.layer.1"}

Outcome = tuple[list[float], dict[str, Tensor], Any]
"""The loss of each step, the last weights of model and loss, the trainer."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of three layers, and its tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=5 + len(WORDS), max_position_embeddings=24, **SIZES)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def text(number: int) -> str:
    """One to six words."""
    return " ".join(WORDS[(number * k + k) % len(WORDS)] for k in range(1, 2 + number % 6))


def texts(first: int, second: int) -> list[str]:
    return [text(first * number + second) for number in range(N)]


PAIRS = {"anchor": texts(1, 0), "positive": texts(3, 1)}
TRIPLES = {**PAIRS, "negative": texts(5, 2)}
LABELLED = {"one": texts(1, 0), "other": texts(3, 1), "label": [number % 3 for number in range(N)]}
CLASSES = {"text": texts(1, 0), "label": LABELLED["label"]}


def ranking(model: Any) -> Any:
    return losses.MultipleNegativesRankingLoss(model)


def classes(model: Any) -> Any:
    """With weights of its own, which the optimizer holds."""
    torch.manual_seed(1)
    return losses.SoftmaxLoss(model, SIZES["hidden_size"], 3)


Case = tuple[dict[str, Any], Any, dict[str, Any]]
"""Columns, a loss, arguments."""

CASES: dict[str, Case] = {
    "pairs": (PAIRS, ranking, {}),
    "classes": (LABELLED, classes, {}),
    "scores": (LABELLED, lambda model: losses.CoSENTLoss(model), {}),
    "triples": (TRIPLES, ranking, {}),
    "of one column": (
        CLASSES,
        lambda model: losses.BatchAllTripletLoss(model),
        {"batch_sampler": BatchSamplers.GROUP_BY_LABEL},
    ),
    "nested": (PAIRS, lambda model: losses.MatryoshkaLoss(model, ranking(model), [8, 4]), {}),
    "prompts": (PAIRS, ranking, {"prompts": {"anchor": "ice snow ", "positive": "hail "}}),
    "names that begin alike": ({"text_2": PAIRS["anchor"], "text": PAIRS["positive"]}, ranking, {}),
    "no duplicates": (PAIRS, ranking, {"batch_sampler": BatchSamplers.NO_DUPLICATES}),
    "accumulated bf16": (PAIRS, ranking, {"bf16": True, "gradient_accumulation_steps": 2}),
}


def told(mode: str = "cache", policy: Any = None, **more: Any) -> dict[str, Any]:
    chosen = POLICY if policy is None else policy
    return {"policy": chosen, "mode": mode, "ladder": "exact", "views": 1, "verbose": False, **more}


def trainer_of(saved: Path, out: Path, case: Case, freezing: dict[str, Any] | None, **keywords: Any) -> Any:
    columns, loss, more = case
    options = {"num_train_epochs": EPOCHS, **ARGUMENTS, **more}
    model = sentences.SentenceTransformer(str(saved))
    given = {} if freezing is None else {"freezing": freezing}
    return (sentences.SentenceTransformerTrainer if freezing is None else FreezingTrainer)(
        model,
        sentences.SentenceTransformerTrainingArguments(str(out), **options),
        train_dataset=datasets.Dataset.from_dict(columns) if type(columns) is dict else columns,
        loss=loss(model),
        **given,
        **keywords,
    )


def trained(*args: Any, resume: Path | None = None, **keywords: Any) -> Outcome:
    trainer = trainer_of(*args, **keywords)
    torch.manual_seed(2)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    told = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return told, dict(trainer.loss.state_dict()), trainer


def assert_same(one: Outcome, other: Outcome) -> None:
    assert one[0] == other[0]
    assert all(torch.equal(value, other[1][key]) for key, value in one[1].items())


def sources(trainer: Any) -> list[str]:
    return [record["source"] for record in trainer.freezer.history if record["event"] == "epoch"]


def test_columns_are_stored_as_long_as_their_texts_are(saved: Path, tmp_path: Path) -> None:
    case, freezing = (PAIRS, ranking, {"num_train_epochs": 2}), {"policy": {1: POLICY[2]}, "keep_frozen": True}
    _, _, trainer = trained(saved, tmp_path, case, told(**freezing))
    assert sources(trainer) == ["images", "cache"]
    (freeze,) = [record for record in trainer.freezer.history if record["event"] == "freeze"]
    tokens = sum(len(line.split()) + 2 for column in PAIRS.values() for line in column)
    assert freeze["dense_bytes"] == tokens * (4 * SIZES["hidden_size"] + 3 * 4)  # ids, types and masks beside them
    assert {parameter.requires_grad for parameter in trainer.model[0].model.encoder.layer[:2].parameters()} == {False}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("pairs", "classes") else pytest.mark.long)
        for name in CASES
    ],
)
def test_a_cached_run_is_one_that_recomputes(name: str, saved: Path, tmp_path: Path) -> None:
    cached = trained(saved, tmp_path, CASES[name], told())
    recomputed = trained(saved, tmp_path, CASES[name], told("recompute"))
    assert_same(cached, recomputed)
    assert "cache" in sources(cached[2])
    assert len(set(cached[0])) > EPOCHS
    assert all(parameter.requires_grad for parameter in cached[2].model.parameters())
    assert "forward" not in vars(cached[2].model) or name == "accumulated bf16"  # where an Accelerator leaves its own


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_where_nothing_freezes_it_is_the_trainer_to_the_bit(name: str, saved: Path, tmp_path: Path) -> None:
    assert_same(trained(saved, tmp_path, CASES[name], told(policy="none")), trained(saved, tmp_path, CASES[name], None))


@pytest.mark.long
@pytest.mark.parametrize("name", ["pairs", "scores", "no duplicates", "of one column"])
def test_a_resumed_run_ends_with_the_same_bits(name: str, saved: Path, tmp_path: Path) -> None:
    """Also where a sampler makes the batches, and in some epochs more than it says."""
    columns, loss, more = CASES[name]
    case = (columns, loss, {**more, "save_strategy": "steps", "save_steps": 1})
    whole = trained(saved, tmp_path / "whole", case, told())
    for step in (1, 4, 6, 8, 9):
        again = trained(saved, tmp_path / "again", case, told(), resume=tmp_path / "whole" / f"checkpoint-{step}")
        assert all(torch.equal(value, whole[1][key]) for key, value in again[1].items())
        assert sources(again[2]) == sources(whole[2])


@pytest.mark.slow
def test_a_resumed_run_reads_what_it_had_stored(saved: Path, tmp_path: Path) -> None:
    freezing, case = told(cache_dir=tmp_path / "cache"), (PAIRS, ranking, {"save_strategy": "steps", "save_steps": 5})
    whole = trained(saved, tmp_path / "whole", case, freezing)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("features.bin")}
    resumed = tmp_path / "whole" / "checkpoint-10"
    again = trained(saved, tmp_path / "again", case, freezing, resume=resumed)
    assert all(torch.equal(value, whole[1][key]) for key, value in again[1].items())
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("features.bin")}


@pytest.mark.long
def test_evaluators_and_evaluation_sets_see_the_whole_model(saved: Path, tmp_path: Path) -> None:
    evaluator = EmbeddingSimilarityEvaluator(texts(1, 0)[:8], texts(2, 1)[:8], [n / 8 for n in range(8)])
    case = (PAIRS, ranking, {"eval_strategy": "epoch"})
    keywords = {"eval_dataset": datasets.Dataset.from_dict(PAIRS).select(range(12)), "evaluator": evaluator}
    seen = []
    for mode in ("cache", "recompute"):
        _, _, trainer = trained(saved, tmp_path, case, told(mode), **keywords)
        entries = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
        seen.append([(entry["eval_loss"], entry["eval_spearman_cosine"]) for entry in entries])
        assert trainer.evaluate()["eval_loss"] == entries[-1]["eval_loss"]
    assert seen[0] == seen[1]
    assert len(seen[0]) == EPOCHS


@pytest.mark.slow
def test_a_loss_that_leaves_the_models_own_forward_on_it_was_evaluated_before(saved: Path, tmp_path: Path) -> None:
    columns, loss, _ = CASES["nested"]
    trainer = trainer_of(saved, tmp_path, (columns, loss, {"max_steps": 1}), told(policy="none"))
    trainer.evaluate(trainer.train_dataset)
    assert "forward" in vars(trainer.model)
    assert trainer.train().global_step == 1


def test_what_is_wrong_with_the_data_is_said(saved: Path, tmp_path: Path) -> None:
    trainer = trainer_of(saved, tmp_path, ({name: lines[:1] for name, lines in PAIRS.items()}, ranking, {}), told())
    with pytest.raises(DatasetError, match=r"the data set has 1 sample"):
        trainer.train()


class Wrapped(sentences.SentenceTransformer):  # type: ignore[misc, name-defined]
    def forward(self, input: dict[str, Tensor], **keywords: Any) -> Any:
        return super().forward(input, **keywords)


def guided(model: Any) -> Any:
    return losses.GISTEmbedLoss(model, sentences.SentenceTransformer(modules=list(model.children())))


def two_sets() -> Any:
    return datasets.DatasetDict({name: datasets.Dataset.from_dict(PAIRS) for name in ("first", "second")})


REFUSED: dict[str, tuple[Case, str]] = {
    "a gradient cache": (
        (PAIRS, lambda model: losses.CachedMultipleNegativesRankingLoss(model), {}),
        r"CachedMultipleNegativesRankingLoss runs the model twice on parts of a batch",
    ),
    "all layers": (
        (PAIRS, lambda model: losses.AdaptiveLayerLoss(model, ranking(model)), {}),
        r"AdaptiveLayerLoss needs the outputs of all layers",
    ),
    "a second model": ((PAIRS, guided, {}), r"GISTEmbedLoss runs a model of its own, SentenceTransformer"),
    "several data sets": ((two_sets(), ranking, {}), r"train_dataset holds 2 data sets"),
    "a compiled model": ((PAIRS, ranking, {"torch_compile": True}), r"torch_compile=True"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_fed_is_refused_by_name(name: str, saved: Path, tmp_path: Path) -> None:
    case, why = REFUSED[name]
    with pytest.raises(ArgumentError, match=why):
        trainer_of(saved, tmp_path, case, told()).train()


@pytest.mark.slow
def test_what_stands_before_the_first_adapter_is_frozen_by_default(saved: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    freezing = told()
    del freezing["policy"]
    trainer = trainer_of(saved, tmp_path, (PAIRS, ranking, {"max_steps": 1}), freezing)
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], layers_to_transform=[2])
    trainer.model[0].model = peft.get_peft_model(trainer.model[0].model, config)
    trainer.train()
    (freeze,) = [record for record in trainer.freezer.history if record["event"] == "freeze"]
    assert freeze["cut"] == "0.model.base_model.model.encoder.layer.1"


def test_whatever_makes_the_tokens_is_known_by_its_files() -> None:
    """Pieces of words are no text."""

    class Pieces:
        def __init__(self, data: bytes, name: str) -> None:
            self.data, self.name = data, name

        def save_pretrained(self, folder: str) -> None:
            (Path(folder) / "spiece.model").write_bytes(self.data)
            (Path(folder) / "config.json").write_text(f'{{"name_or_path": "{self.name}"}}')

    digests = [_digest_of(Pieces(data, name)) for data, name in ((b"\xff", "a"), (b"\xff", "b"), (b"\xfe", "a"))]
    assert digests[0] == digests[1] != digests[2]


class Longer(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Lets texts be longer from the second epoch on; until then it asks the tokenizer for something of its own."""

    def __init__(self, length: int | None) -> None:
        self.length = length

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        model.tokenizer("ice snow")
        if self.length is not None:
            model.max_seq_length = self.length


@pytest.mark.slow
def test_texts_keep_their_tokens_while_it_trains(saved: Path, tmp_path: Path) -> None:
    case = (PAIRS, ranking, {"max_steps": 5})
    for length in (None, 20):
        trainer = trainer_of(saved, tmp_path, case, told(policy="none"), callbacks=[Longer(length)])
        trainer.model.max_seq_length = 4
        if length is None:
            assert trainer.train().global_step == 5
            continue
        with pytest.raises(ArgumentError, match=r"BertTokenizer makes other tokens than when the training began"):
            trainer.train()


def test_an_evaluation_is_not_stored(saved: Path, tmp_path: Path) -> None:
    trainer = trainer_of(saved, tmp_path, CASES["pairs"], told(), stored_evaluation="exact")
    with pytest.raises(ArgumentError, match=r"stored_evaluation='exact' .* batches that the trainer draws"):
        trainer.train()


def test_prompts_that_differ_are_refused_where_the_mean_leaves_them_out(saved: Path, tmp_path: Path) -> None:
    trainer = trainer_of(saved, tmp_path, CASES["prompts"], told())
    (pooling,) = [module for module in trainer.model.children() if isinstance(module, Pooling)]
    pooling.include_prompt = False
    with pytest.raises(ArgumentError, match=r"columns differ in 'prompt_length', beside their tokens"):
        trainer.train()


def test_a_model_with_a_forward_of_its_own_is_refused(saved: Path, tmp_path: Path) -> None:
    trainer = trainer_of(saved, tmp_path, CASES["pairs"], told())
    trainer.model.__class__ = Wrapped
    with pytest.raises(ArgumentError, match=r"Wrapped is not called as a SentenceTransformer is"):
        trainer.train()
    trainer.model.__class__ = sentences.SentenceTransformer
    forward = trainer.model.forward
    trainer.model.forward = lambda features: forward(features)
    with pytest.raises(ArgumentError, match=r"SentenceTransformer.forward is wrapped"):
        trainer.train()


def test_the_mixin_stands_before_a_trainer_of_ones_own() -> None:
    class Mine(sentences.SentenceTransformerTrainer):  # type: ignore[misc, name-defined]
        pass

    class Freezing(FreezingMixin, Mine):
        pass

    assert issubclass(FreezingTrainer, FreezingMixin)
    assert Freezing.get_train_dataloader is FreezingMixin.get_train_dataloader
    assert isinstance(ranking(nn.Identity()), nn.Module)
