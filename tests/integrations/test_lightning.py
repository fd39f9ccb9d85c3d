"""Lightning's Trainer with a Freeze among its callbacks: the plain loop's bits, its checkpoints, its callbacks."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hoarfrost import Freezer
from hoarfrost.errors import ArgumentError, HoarfrostError
from shared.images import PLAIN, images
from shared.nets import resnet, vit
from shared.runs import assert_same_tensors, sgd

L = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.callbacks import (  # noqa: E402
    EarlyStopping,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)

from hoarfrost.integrations.lightning import Freeze  # noqa: E402

EPOCHS, STEPS = 5, 4
POLICY = {1: "layer1", 3: "layer2"}
EXACT: dict[str, Any] = {"mode": "cache", "ladder": "exact", "views": 1, "verbose": False}
VALIDATION = torch.stack([image for image, _ in images(8, PLAIN)]), torch.arange(8) % 10

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:lightning", "ignore:.*:FutureWarning")


class Module(L.LightningModule):  # type: ignore[name-defined,misc]
    def __init__(self, make: Callable[[], nn.Module] = resnet) -> None:
        super().__init__()
        self.model = make()
        self.sources: list[tuple[int, ...]] = []
        self.evaluated: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        self.sources.append(tuple(inputs.shape[1:]))
        return F.cross_entropy(self.model(inputs), targets)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = batch
        self.evaluated.append(self.model(inputs))
        self.log("val_loss", F.cross_entropy(self.evaluated[-1], targets))

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        optimizer = sgd(self.model)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]


def freeze_of(**options: Any) -> Freeze:
    return Freeze(images(60, PLAIN), batch_size=16, **{"policy": POLICY, **EXACT, **options})


def trainer_of(freeze: Freeze | None = None, *, callbacks: Sequence[Any] = (), **options: Any) -> Any:
    told = {
        "max_epochs": EPOCHS,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(callbacks=[*callbacks, *([freeze] if freeze else [])], **{**told, **options})


def fitted(
    module: Any = None, freeze: Freeze | None = None, ckpt_path: Any = None, **options: Any
) -> tuple[Any, Freeze]:
    module, freeze = module or Module(), freeze or freeze_of()
    torch.manual_seed(3)
    validation = DataLoader(TensorDataset(*VALIDATION), batch_size=8)
    trainer_of(freeze, **options).fit(module, freeze.loader(), validation, ckpt_path=ckpt_path)
    return module, freeze


def by_hand(**options: Any) -> dict[str, Tensor]:
    """The same training in a loop of one's own."""
    model = resnet()
    optimizer = sgd(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    torch.manual_seed(3)
    data, told = images(60, PLAIN), {"policy": POLICY, **EXACT, **options}
    with Freezer(model, data, batch_size=16, epochs=EPOCHS, optimizer=optimizer, **told) as freezer:
        for epoch in range(EPOCHS):
            model.train()
            for inputs, targets in freezer.batches(epoch):
                optimizer.zero_grad()
                F.cross_entropy(freezer(inputs), targets).backward()
                optimizer.step()
            scheduler.step()
            freezer.end_epoch()
    return model.state_dict()


def test_it_is_a_loop_of_ones_own_to_the_bit() -> None:
    module, freeze = fitted()
    assert_same_tensors(module.model.state_dict(), by_hand())
    assert {(1, 28, 28), (4, 28, 28), (8, 14, 14)} == set(module.sources)
    assert [r["depth"] for r in freeze.freezer.history if r["event"] == "epoch"][-1] > 1  # type: ignore[union-attr]
    assert all(p.requires_grad for p in module.model.parameters())


def test_without_a_freeze_it_is_lightnings_own_loop() -> None:
    with Freezer(resnet(), images(60, PLAIN), batch_size=16, epochs=EPOCHS, policy="none", verbose=False) as freezer:
        epochs = [[*freezer.batches(epoch)] for epoch in range(EPOCHS)]
    module, _ = fitted(freeze=freeze_of(policy="none"))
    plain = Module()

    class Epochs:
        """One after the other."""

        def __init__(self) -> None:
            self.coming = 0

        def __len__(self) -> int:
            return STEPS

        def __iter__(self) -> Any:
            self.coming += 1  # with the first batch: a Trainer asks for more iterators than it uses
            yield from epochs[self.coming - 1]

    trainer_of().fit(plain, Epochs(), DataLoader(TensorDataset(*VALIDATION), batch_size=8))
    assert_same_tensors(module.model.state_dict(), plain.model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(module.evaluated, plain.evaluated, strict=True))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_cached_is_recomputed_to_the_bit(precision: Any) -> None:
    cached, freeze = fitted(precision=precision)
    recomputed, other = fitted(freeze=freeze_of(mode="recompute"), precision=precision)
    assert_same_tensors(cached.state_dict(), recomputed.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(cached.evaluated, recomputed.evaluated, strict=True))
    wanted = {"32-true": None, "bf16-mixed": "bfloat16"}[precision]
    freezes = [r for f in (freeze, other) for r in f.freezer.history if r["event"] == "freeze"]  # type: ignore[union-attr]
    assert [(r["choice"], r["precision"]) for r in freezes] == [("cache", wanted)] * 2 + [("recompute", wanted)] * 2


@pytest.mark.long
@pytest.mark.parametrize("steps", [2, 4, 7, 8, 9, 12, 13, 18])
def test_its_checkpoints_go_on_to_the_bit(steps: int, tmp_path: Path) -> None:
    """Within an epoch and between two, before, at and behind each freeze."""
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=steps, save_top_k=-1, filename="{step}")
    whole, _ = fitted(freeze=freeze_of(cache_dir=tmp_path / "cache"), callbacks=[saver])
    path = tmp_path / f"step={steps}.ckpt"
    again, freeze = fitted(Module(lambda: resnet(1)), freeze_of(cache_dir=tmp_path / "cache"), path)
    assert_same_tensors(again.state_dict(), whole.state_dict())
    assert len(again.sources) == EPOCHS * STEPS - steps
    assert [r["epoch"] for r in freeze.freezer.history if r["event"] == "epoch"] == [*range(EPOCHS)]  # type: ignore[union-attr]


@pytest.mark.long
@pytest.mark.parametrize("at_end", [False, True])
def test_checkpoints_between_epochs_hold_their_metrics(at_end: bool, tmp_path: Path) -> None:
    """Saved behind the validation, or behind the epoch."""
    saver = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}", save_on_train_epoch_end=at_end)
    whole, full = fitted(callbacks=[saver])
    again, freeze = fitted(Module(lambda: resnet(1)), ckpt_path=tmp_path / "epoch=2.ckpt", callbacks=[])
    assert_same_tensors(again.state_dict(), whole.state_dict())
    seen = [
        [(r["epoch"], r["val_loss"]) for r in f.freezer.history if r["event"] == "epoch"]  # type: ignore[union-attr]
        for f in (full, freeze)
    ]
    assert seen[0] == seen[1]


def test_a_checkpoint_from_behind_the_training_goes_on(tmp_path: Path) -> None:
    freeze, module = freeze_of(epochs=EPOCHS), Module()
    torch.manual_seed(3)
    trainer = trainer_of(freeze, max_epochs=4)
    trainer.fit(module, freeze.loader())
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    again, other = fitted(Module(lambda: resnet(1)), ckpt_path=tmp_path / "end.ckpt")
    assert set(again.sources) == {(8, 14, 14)}
    assert len(again.sources) == STEPS
    assert other.freezer.history[-1]["depth"] > 1  # type: ignore[union-attr]


def test_a_checkpoint_from_before_there_was_a_freeze_goes_on(tmp_path: Path) -> None:
    trainer = trainer_of(max_epochs=2)
    trainer.fit(Module(), DataLoader(images(60, PLAIN), 16))
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    again, freeze = fitted(ckpt_path=tmp_path / "plain.ckpt")
    assert [r["epoch"] for r in freeze.freezer.history if r["event"] == "epoch"] == [2, 3, 4]  # type: ignore[union-attr]
    assert len(again.sources) == 3 * STEPS


def test_weights_are_saved_under_the_models_own_names(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, filename="last")
    module, _ = fitted(callbacks=[saver])
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    plain = Module(lambda: resnet(1))
    plain.load_state_dict(saved["state_dict"])
    assert_same_tensors(plain.model.state_dict(), module.model.state_dict())


def test_it_validates_and_tests_the_whole_model() -> None:
    freeze, module = freeze_of(), Module()
    data = DataLoader(TensorDataset(*VALIDATION), batch_size=8)
    trainer = trainer_of(freeze)
    trainer.validate(module, data, verbose=False)
    trainer.fit(module, freeze.loader(), data)
    in_training = module.evaluated[-1]
    trainer.test(module, data, verbose=False)
    twin = copy.deepcopy(module.model).eval()
    with torch.no_grad():
        assert torch.equal(twin(VALIDATION[0]), module.evaluated[-1])
        assert torch.equal(in_training, module.evaluated[-1])


class TwoOptimizers(Module):
    def __init__(self, make: Callable[[], nn.Module] = resnet) -> None:
        super().__init__(make)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        loss = super().training_step(batch, batch_idx)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self) -> Any:
        front = [p for name, p in self.model.named_parameters() if name.startswith(("stem", "layer1"))]
        back = [p for p in self.model.parameters() if all(p is not other for other in front)]
        return torch.optim.Adam(front, 1e-3), torch.optim.SGD(back, 0.05, 0.9)


@pytest.mark.long
def test_several_optimizers(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=14, save_top_k=-1, filename="{step}")
    whole, _ = fitted(TwoOptimizers(), callbacks=[saver])
    recomputed, _ = fitted(TwoOptimizers(), freeze_of(mode="recompute"))
    assert_same_tensors(whole.state_dict(), recomputed.state_dict())
    saved = next(tmp_path.glob("*.ckpt"))
    again, _ = fitted(TwoOptimizers(lambda: resnet(1)), ckpt_path=saved)
    assert_same_tensors(again.state_dict(), whole.state_dict())


def test_a_policy_sees_the_metrics_of_the_epoch() -> None:
    seen: list[Any] = []

    def policy(state: Any) -> int:
        seen.append([dict(metrics) for metrics in state.metrics])
        return 0

    fitted(freeze=freeze_of(policy=policy), check_val_every_n_epoch=2)
    assert [set(metrics) for metrics in seen[-1]] == [set(), {"val_loss"}, set(), {"val_loss"}]


def test_early_stopping_ends_it() -> None:
    stop = EarlyStopping("val_loss", stopping_threshold=1e9)
    module, _ = fitted(callbacks=[stop])
    assert len(module.sources) == STEPS
    assert all(p.requires_grad for p in module.model.parameters())


@pytest.mark.long
@pytest.mark.parametrize("averaging", [lambda: StochasticWeightAveraging(0.01, 2), lambda: WeightAveraging()])
def test_averages_of_weights(averaging: Callable[[], Any]) -> None:
    policy = {2: "encoder.layers.encoder_layer_1"}
    runs = [
        fitted(Module(vit), freeze_of(policy=policy, mode=mode), callbacks=[averaging()])[0]
        for mode in ("cache", "recompute")
    ]
    assert_same_tensors(runs[0].state_dict(), runs[1].state_dict())
    assert len(set(runs[0].sources)) == 2


def test_averages_that_reset_batch_norms_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"StochasticWeightAveraging resets the statistics of all batch norms"):
        fitted(callbacks=[StochasticWeightAveraging(0.01, 2)])


def test_a_scheduler_may_ask_for_the_steps_before() -> None:
    class OneCycle(Module):
        def configure_optimizers(self) -> Any:
            self.total = self.trainer.estimated_stepping_batches
            return sgd(self.model)

    module, _ = fitted(OneCycle())
    assert module.total == EPOCHS * STEPS


def test_part_of_the_batches() -> None:
    module, freeze = fitted(limit_train_batches=2)
    assert len(module.sources) == 2 * EPOCHS
    assert len([r for r in freeze.freezer.history if r["event"] == "epoch"]) == EPOCHS  # type: ignore[union-attr]


def test_steps_say_how_many_epochs() -> None:
    _, freeze = fitted(max_epochs=-1, max_steps=10)
    assert freeze.freezer.epochs == 3  # type: ignore[union-attr]


@pytest.mark.long
def test_it_fits_again_behind_an_error() -> None:
    class Failing(Module):
        def on_train_epoch_end(self) -> None:
            if self.current_epoch == 3 and not hasattr(self, "failed"):
                self.failed = True
                raise RuntimeError("on purpose")

    module, freeze = Failing(), freeze_of()
    with pytest.raises(RuntimeError, match="on purpose"):
        fitted(module, freeze)
    assert not all(p.requires_grad for p in module.model.parameters())
    fitted(module, freeze)
    assert all(p.requires_grad for p in module.model.parameters())


def test_the_older_package_is_the_same() -> None:
    older = pytest.importorskip("pytorch_lightning")

    class Older(older.LightningModule):  # type: ignore[misc]
        __init__ = Module.__init__
        training_step, configure_optimizers = Module.training_step, Module.configure_optimizers

    Older.__init__ = lambda self: (  # type: ignore[method-assign]
        older.LightningModule.__init__(self),
        setattr(self, "model", resnet()),
        setattr(self, "sources", []),
    )[0]
    module, freeze = Older(), freeze_of()
    told = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    older.Trainer(max_epochs=EPOCHS, callbacks=[freeze], **told).fit(module, freeze.loader())
    assert_same_tensors(module.model.state_dict(), by_hand())


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "hoarfrost.integrations.lightning")
    with pytest.raises(HoarfrostError, match=r"pip install 'hoarfrost\[lightning\]'"):
        importlib.import_module("hoarfrost.integrations.lightning")


def test_a_model_that_is_elsewhere() -> None:
    with pytest.raises(ArgumentError, match=r"no model in its attribute 'net': Freeze\(.* takes one of 'model'"):
        fitted(freeze=freeze_of(attribute="net"))


def test_other_loaders_are_refused() -> None:
    freeze = freeze_of()
    with pytest.raises(ArgumentError, match=r"the Trainer trains on DataLoader: give it the callback's own loader"):
        trainer_of(freeze).fit(Module(), DataLoader(images(60, PLAIN), 16))


def test_another_begins_behind_one_that_an_error_broke_off() -> None:
    module, wrong = Module(), freeze_of(policy="none")  # `wrong` stays, as an open notebook keeps it
    with pytest.raises(ArgumentError, match="the Trainer trains on DataLoader"):
        trainer_of(wrong, max_epochs=1).fit(module, DataLoader(images(60, PLAIN), 16))
    _, freeze = fitted(module, freeze_of(policy="none"), max_epochs=1)
    assert not wrong.broken_off
    assert [record["event"] for record in freeze.freezer.history] == ["epoch"]  # type: ignore[union-attr]


def test_two_doors_are_refused() -> None:
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `Freeze`"):  # Lightning's own word
        trainer_of(freeze_of(), callbacks=[freeze_of()])

    class Within(Module):
        def on_train_start(self) -> None:
            holder, other = Module(), freeze_of(attribute="inner")
            holder.inner = self.model
            trainer_of(other).fit(holder, other.loader())

    with pytest.raises(ArgumentError, match=r"lightning.Freeze feeds this \w+ already, and .* would freeze"):
        fitted(Within())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bf16-true"}, r"precision='bf16-true' is not supported"),
        ({"overfit_batches": 2}, r"overfit_batches wants a DataLoader to change"),
    ],
)
def test_trainers_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        fitted(**options)


def test_hooks_that_would_see_features_are_refused() -> None:
    class Augmenting(Module):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch

    with pytest.raises(ArgumentError, match=r"Augmenting.on_after_batch_transfer would get stored features"):
        fitted(Augmenting())


@pytest.mark.parametrize("keyword", ["model", "optimizer", "device", "precision", "route"])
def test_what_the_trainer_says_is_not_said_twice(keyword: str) -> None:
    with pytest.raises(ArgumentError, match=rf"Freeze\(..., {keyword}=...\): "):
        freeze_of(**{keyword: None})


def test_batches_outside_a_training_are_refused() -> None:
    loader = freeze_of().loader()
    assert len(loader) == STEPS
    with pytest.raises(ArgumentError, match=r"gives batches while trainer.fit\(...\) runs"):
        next(iter(loader))
