"""transformers' Trainer with a freezer in it: the Trainer's own bits, on features and on images, across a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hoarfrost.errors import ArgumentError, CheckpointError, DatasetError

transformers = pytest.importorskip("transformers")

from hoarfrost.integrations.transformers import FILE, FreezingMixin, FreezingTrainer  # noqa: E402
from shared.grids import grid  # noqa: E402
from shared.runs import assert_same_tensors  # noqa: E402
from shared.small_transformers import Images, Texts, bert, padded, vit  # noqa: E402
from shared.trainer_arguments import ARGUMENTS  # noqa: E402

N, EPOCHS, CLASSES = 26, 3, 4

Outcome = tuple[list[float], dict[str, Tensor], Any]
"""The loss of each step, the last weights, the trainer."""


def resnet(classes: int) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    config = transformers.ResNetConfig(num_channels=1, num_labels=classes, **sizes)
    return transformers.ResNetForImageClassification(config)


MODELS: dict[str, tuple[Any, Any, dict[int, str]]] = {
    "vit": (vit, Images, {1: "vit.layers.0", 2: "vit.layers.1"}),
    "resnet": (resnet, Images, {1: "resnet.embedder", 2: "resnet.encoder.stages.0"}),
    "bert": (bert, Texts, {1: "bert.encoder.layer.0", 2: "bert.encoder.layer.1"}),
}


def told(policy: Any, mode: str = "cache") -> dict[str, Any]:
    return {"policy": policy, "mode": mode, "ladder": "exact", "views": 1, "verbose": False}


def trainer_of(
    name: str, out: Path, freezing: dict[str, Any] | None = None, keywords: dict[str, Any] | None = None, **args: Any
) -> Any:
    make, data, _ = MODELS[name]
    options = {"num_train_epochs": EPOCHS, **ARGUMENTS, **args}
    given = {} if freezing is None else {"freezing": freezing}
    return (transformers.Trainer if freezing is None else FreezingTrainer)(
        make(CLASSES),
        transformers.TrainingArguments(str(out), **options),
        train_dataset=data(N, CLASSES),
        data_collator=padded if name == "bert" else None,
        **given,
        **(keywords or {}),
    )


def trained(*args: Any, resume: Path | None = None, **options: Any) -> Outcome:
    trainer = trainer_of(*args, **options)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses, dict(trainer.model.state_dict()), trainer


def assert_same(
    one: tuple[list[float], dict[str, Tensor], Any], other: tuple[list[float], dict[str, Tensor], Any]
) -> None:
    assert one[0] == other[0]
    assert all(torch.equal(value, other[1][key]) for key, value in one[1].items())


def sources(trainer: Any) -> list[str]:
    return [record["source"] for record in trainer.freezer.history if record["event"] == "epoch"]


WAYS: dict[str, dict[str, Any]] = {"plain": {}, "accumulated bf16": {"gradient_accumulation_steps": 2, "bf16": True}}
EVERY_KIND = grid(name=MODELS.keys(), more=WAYS)


@EVERY_KIND
def test_where_nothing_freezes_it_is_the_trainer_to_the_bit(name: str, more: dict[str, Any], tmp_path: Path) -> None:
    one = trained(name, tmp_path, told("none"), **more)
    assert_same(one, trained(name, tmp_path, **more))
    assert one[2].state.global_step == EPOCHS * (2 if more else 4)


@EVERY_KIND
def test_a_cached_run_is_one_that_recomputes(name: str, more: dict[str, Any], tmp_path: Path) -> None:
    policy = MODELS[name][2]
    cached = trained(name, tmp_path, told(policy), **more)
    assert_same(cached, trained(name, tmp_path, told(policy, "recompute"), **more))
    assert sources(cached[2]) == ["images", "cache", "cache"]
    assert all(parameter.requires_grad for parameter in cached[2].model.parameters())
    assert cached[2].state.total_flos > 0


LOOPS: dict[str, tuple[str, dict[str, Any], int]] = {
    "grouped by length": ("bert", {"train_sampling_strategy": "group_by_length"}, 12),
    "an uneven last accumulation": ("vit", {"gradient_accumulation_steps": 3}, 6),
    "without the last batch": ("vit", {"dataloader_drop_last": True}, 9),
    "into a third epoch": ("vit", {"max_steps": 10, "num_train_epochs": 1}, 10),
    "less than an epoch": ("vit", {"max_steps": 3}, 3),
    "evaluated within epochs": ("vit", {"eval_strategy": "steps", "eval_steps": 3}, 12),
}
"""Model, arguments, steps."""


@pytest.mark.slow
@pytest.mark.parametrize("how", LOOPS)
def test_however_it_loops_a_cached_run_is_one_that_recomputes(how: str, tmp_path: Path) -> None:
    name, more, steps = LOOPS[how]
    keywords = {"eval_dataset": Images(N, CLASSES)} if "eval_steps" in more else {}
    policy = {0: MODELS[name][2][1], 1: MODELS[name][2][2]}
    cached = trained(name, tmp_path, told(policy), keywords, **more)
    assert_same(cached, trained(name, tmp_path, told(policy, "recompute"), keywords, **more))
    assert cached[2].state.global_step == steps
    assert "cache" in {record["choice"] for record in cached[2].freezer.history if record["event"] == "freeze"}


def mixed(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    images = torch.stack([item["pixel_values"] for item in items])
    share = torch.rand(())
    labels = nn.functional.one_hot(torch.tensor([item["labels"] for item in items]), 4).float()
    return {
        "pixel_values": share * images + (1 - share) * images.flip(0),
        "labels": share * labels + (1 - share) * labels.flip(0),
    }


def test_a_collator_that_mixes_is_refused_by_name(tmp_path: Path) -> None:
    trainer = trainer_of("vit", tmp_path, told("none"))
    trainer.data_collator = mixed
    with pytest.raises(DatasetError, match=r"mixed sorts, mixes, draws or drops items"):
        trainer.train()


class TwoColumns(Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"anchor": f"text {index}", "positive": f"another text {index}"}


def encoded(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {f"{name}_input_ids": torch.tensor([[len(item[name])] for item in items]) for name in items[0]}


class Encoder(nn.Module):
    """Called with a mapping, once for each column, as those of sentence-transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(50, 4), nn.Linear(4, 4)

    def forward(self, input: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.linear(self.embedding(input["input_ids"]).mean(1))
        return out


def test_models_that_a_trainer_calls_with_something_else_are_refused_by_name(tmp_path: Path) -> None:
    options = {"report_to": [], "use_cpu": True, "remove_unused_columns": False}
    args = transformers.TrainingArguments(str(tmp_path), **options)
    trainer = FreezingTrainer(Encoder(), args, train_dataset=TwoColumns(), data_collator=encoded)
    with pytest.raises(ArgumentError, match=r"'anchor_input_ids', 'positive_input_ids', of which Encoder takes none"):
        trainer.train()


@pytest.mark.slow
def test_sentence_transformers_are_refused_by_name(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    sentences = pytest.importorskip("sentence_transformers")
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")

    class Trainer(FreezingMixin, sentences.SentenceTransformerTrainer):  # type: ignore[misc, name-defined]
        pass

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rime", "frost"]))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    bert(CLASSES).base_model.save_pretrained(tmp_path)
    model = sentences.SentenceTransformer(str(tmp_path))
    args = sentences.SentenceTransformerTrainingArguments(str(tmp_path / "out"), report_to=[], use_cpu=True)
    data = datasets.Dataset.from_dict({"anchor": ["rime"] * 8, "positive": ["frost rime"] * 8})
    loss = losses.MultipleNegativesRankingLoss(model)
    trainer = Trainer(model, args, train_dataset=data, loss=loss, freezing=told("none"))
    with pytest.raises(ArgumentError, match=r"Trainer cannot be fed from stored features.*sentence-transformers"):
        trainer.train()


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_a_frozen_steps_loss_is_a_mean_over_what_it_accumulates(name: str, tmp_path: Path) -> None:
    losses, _, _ = trained(name, tmp_path, told({0: MODELS[name][2][1]}), gradient_accumulation_steps=4)
    assert all(1 < loss < 2 for loss in losses)  # about ln 4, however many batches a step has


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options", "steps"),
    [
        ("vit", {}, 4),
        ("bert", {"gradient_accumulation_steps": 2}, 2),
        ("vit", {"gradient_accumulation_steps": 3}, 2),
        ("vit", {"max_steps": 10}, 4),
    ],
    ids=["each batch", "accumulated", "an uneven last accumulation", "so many steps"],
)
def test_a_resumed_run_ends_with_the_same_bits(name: str, options: dict[str, Any], steps: int, tmp_path: Path) -> None:
    freezing = told(MODELS[name][2])
    whole = trained(name, tmp_path / "whole", freezing, save_strategy="steps", save_steps=1, **options)
    for step in (1, steps, steps + 1, 2 * steps, 2 * steps + 1):
        checkpoint = tmp_path / "whole" / f"checkpoint-{step}"
        assert (checkpoint / FILE).is_file()
        _, weights, trainer = trained(name, tmp_path / "again", freezing, resume=checkpoint, **options)
        assert all(torch.equal(value, whole[1][key]) for key, value in weights.items())
        assert sources(trainer) == sources(whole[2])


@pytest.mark.long
def test_nothing_is_read_for_the_batches_that_are_left_out(tmp_path: Path) -> None:
    trained("vit", tmp_path, told("none"), save_strategy="steps", save_steps=1)
    read = []
    for step in (5, 6, 7):
        trainer = trainer_of("vit", tmp_path, told("none"))
        trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        read.append(trainer.train_dataset.read)
    assert [read[0] - read[1], read[1] - read[2]] == [8, 8]


class Noting(FreezingTrainer):
    """Notes the samples of each batch, the epoch that it is of, and the rate of each update."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self.shown: list[tuple[int, list[int]]] = []
        self.rates: list[float] = []
        super().__init__(*args, **keywords)

    def training_step(self, model: Any, inputs: Any, *args: Any, **keywords: Any) -> Tensor:
        self.shown.append((self.freezer._epochs.epoch, inputs["labels"].tolist()))
        return super().training_step(model, inputs, *args, **keywords)

    def _get_learning_rate(self) -> float:
        self.rates.append(super()._get_learning_rate())
        return self.rates[-1]


def noted(out: Path, size: int, resume: Path | None = None, **more: Any) -> Noting:
    """In batches of this size; each sample is of a class of its own."""
    arguments = {"num_train_epochs": 3, "per_device_train_batch_size": size, "save_strategy": "steps", **more}
    arguments |= {"use_cpu": True, "disable_tqdm": True, "report_to": [], "logging_strategy": "no"}
    trainer = Noting(
        vit(N),
        transformers.TrainingArguments(str(out), **arguments),
        train_dataset=Images(N, N),
        freezing=told({1: "vit.layers.0"}),
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer


OTHERWISE: dict[str, tuple[int, dict[str, Any], int, dict[str, Any]]] = {
    "larger batches": (4, {}, 8, {}),
    "smaller batches": (8, {}, 4, {}),
    "larger, fewer in an update": (4, {"gradient_accumulation_steps": 2}, 8, {}),
    "smaller, more in an update": (8, {}, 4, {"gradient_accumulation_steps": 2}),
    "smaller, three in an update": (8, {}, 4, {"gradient_accumulation_steps": 3}),
    "as large, two in an update": (8, {}, 8, {"gradient_accumulation_steps": 2}),
}
"""Batch size and arguments before, and then. What counts is how many samples a batch has over all processes."""


@pytest.mark.long
@pytest.mark.parametrize("how", OTHERWISE)
def test_a_checkpoint_goes_on_with_other_batches_and_each_sample_comes_once(how: str, tmp_path: Path) -> None:
    """Between two epochs and within them, on images and on features; and again from what the second run has saved."""
    size, before, other, then = OTHERWISE[how]
    first = noted(tmp_path / "first", size, save_steps=1, **before)
    whole = noted(tmp_path / "whole", other, save_strategy="no", **then)
    updates, batches = first.state.max_steps // 3, len(first.shown) // 3
    for update in (1, updates, updates + 1):
        done = update // updates * batches + update % updates * before.get("gradient_accumulation_steps", 1)
        again = noted(tmp_path / f"{update}", other, tmp_path / "first" / f"checkpoint-{update}", save_steps=1, **then)
        for epoch in range(3):
            shown = [number for of, numbers in first.shown[:done] + again.shown if of == epoch for number in numbers]
            assert sorted(shown) == list(range(N))
        # Each update has made one step, and the rate falls to where it would have fallen.
        assert again.state.global_step == again.state.max_steps == update + len(again.rates)
        assert again.rates[1:] == whole.rates[1 - len(again.rates) :]
        assert [record["epoch"] for record in again.freezer.history if record["event"] == "epoch"] == [0, 1, 2]
    further = noted(tmp_path / "further", other, tmp_path / f"{update}" / f"checkpoint-{update + 1}", **then)
    assert further.shown == again.shown[-len(further.shown) :]
    assert further.rates == again.rates[1:]
    assert_same_tensors(further.model.state_dict(), again.model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize(("size", "other", "epochs"), [pytest.param(4, 8, 4, marks=pytest.mark.long), (8, 4, 3)])
def test_so_many_steps_are_made_by_however_many(size: int, other: int, epochs: int, tmp_path: Path) -> None:
    """Seven updates an epoch and four, or the other way round: the rate goes by updates, and the epochs follow."""
    first = noted(tmp_path, size, save_steps=1, max_steps=15)
    again = noted(tmp_path / "again", other, tmp_path / "checkpoint-5", save_strategy="no", max_steps=15)
    assert again.state.global_step == 15
    assert again.freezer.epochs == epochs == again.shown[-1][0] + 1
    begun = again.shown[0][0]
    shown = [number for of, numbers in first.shown[:5] + again.shown if of == begun for number in numbers]
    assert sorted(shown) == list(range(N))
    assert again.rates[-1] == pytest.approx(5e-5 / 15)


def test_a_checkpoint_of_a_plain_trainer_is_refused(tmp_path: Path) -> None:
    trained("vit", tmp_path, save_strategy="steps", save_steps=4)
    with pytest.raises(CheckpointError, match=r"holds no hoarfrost\.safetensors"):
        trained("vit", tmp_path, told("none"), resume=tmp_path / "checkpoint-4")


@pytest.mark.parametrize(
    ("freezing", "words"),
    [
        ({"optimizer": None}, "optimizer=None has no place here: the Trainer makes it"),
        ({"polcy": "none"}, "polcy='none': a Freezer takes transform, policy"),
        (3, "keywords of a Freezer by name, not 3"),
    ],
)
def test_what_freezing_does_not_take(freezing: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=words):
        trainer_of("vit", tmp_path, freezing)


@pytest.mark.long
@pytest.mark.parametrize("stored", [None, "exact"])
def test_the_best_model_is_loaded_and_evaluated_whole(stored: str | None, tmp_path: Path) -> None:
    options = {"save_strategy": "epoch", "eval_strategy": "epoch", "load_best_model_at_end": True}
    keywords = {"eval_dataset": Images(N, CLASSES), "stored_evaluation": stored, "log_records": True}
    trainer = trainer_of("vit", tmp_path, told({1: "vit.layers.0"}), keywords, **options)
    for module in trainer.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    trainer.train()
    shown = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    seen = [record["eval_loss"] for record in trainer.freezer.history if record["event"] == "epoch"]
    assert shown == seen
    assert any("hoarfrost/freeze/depth" in entry for entry in trainer.state.log_history)
    # What the last evaluation within the training said of stored features, one on inputs says of the whole model.
    assert trainer.state.best_metric == min(shown)
    assert trainer.evaluate()["eval_loss"] == min(shown)
    best = type(trainer.model).from_pretrained(trainer.state.best_model_checkpoint)
    assert all(
        torch.equal(a, b) for a, b in zip(best.state_dict().values(), trainer.model.state_dict().values(), strict=True)
    )


@pytest.mark.long
def test_behind_adapters_all_in_front_of_the_first_is_stored(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")

    def adapted(mode: str, resume: Path | None = None) -> Outcome:
        trainer = trainer_of("vit", tmp_path / mode, {**told("frozen", mode)}, save_strategy="steps", save_steps=5)
        torch.manual_seed(1)
        config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], layers_to_transform=[2])
        trainer = FreezingTrainer(
            peft.get_peft_model(trainer.model, config),
            trainer.args,
            train_dataset=Images(N, CLASSES),
            freezing={key: value for key, value in told(None, mode).items() if key != "policy"},
        )
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return losses, dict(trainer.model.state_dict()), trainer

    cached = adapted("cache")
    assert cached[2].freezer.history[0]["cut"] == "base_model.model.vit.layers.1"
    assert sources(cached[2]) == ["cache"] * EPOCHS
    assert_same(cached, adapted("recompute"))
    assert_same(cached, adapted("cache", tmp_path / "cache" / "checkpoint-5"))
