"""timm's training task on a freezer's loader: the plain loop's bits, its savers, averages, mixing and frozen layers."""

from __future__ import annotations

import copy
import importlib
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoarfrost import Freezer
from hoarfrost.errors import ArgumentError, HoarfrostError, UnknownCutError
from shared.images import images
from shared.runs import assert_same_tensors

timm = pytest.importorskip("timm")
from timm.loss import SoftTargetCrossEntropy  # noqa: E402
from timm.models import resume_checkpoint  # noqa: E402
from timm.task import ClassificationTask, LogitDistillationTask  # noqa: E402
from timm.utils import CheckpointSaver, freeze  # noqa: E402

from hoarfrost.integrations.timm import adopt  # noqa: E402

EPOCHS, STEPS = 4, 3
EXACT: dict[str, Any] = {"mode": "cache", "ladder": "exact", "views": 1, "verbose": False}
POLICY = {1: "blocks.0", 3: "blocks.1"}


def args_of(**told: Any) -> Namespace:
    plain = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "hflip": 0.0, "color_jitter": None, "aa": None, "reprob": 0.0}
    sizes = {"input_size": (1, 28, 28), "mean": (0.286,), "std": (0.353,), "num_classes": 10, "model": "vit"}
    rest = {"batch_size": 20, "epochs": EPOCHS, "seed": 0, "no_aug": True, "prefetcher": True, "smoothing": 0.1}
    return Namespace(**{**plain, **sizes, **rest, **told})


def vit(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"img_size": 28, "patch_size": 7, "embed_dim": 24, "depth": 3, "num_heads": 2, "in_chans": 1}
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=10, **sizes)
    return model


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model("test_efficientnet", num_classes=10, in_chans=1)
    return model


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    decays, others = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW([{"params": others, "weight_decay": 0.0}, {"params": decays}], 1e-3)


class Run:
    """What train.py does, as far as a loader meets it."""

    def __init__(self, model: nn.Module | None = None, criterion: Any = None, folder: Path | None = None, **told: Any):
        self.model = vit() if model is None else model
        self.task = ClassificationTask(self.model, criterion or nn.CrossEntropyLoss(), verbose=False)
        known = {*vars(args_of()), "mixup", "cutmix", "mixup_mode"}
        self.args = args_of(**{name: value for name, value in told.items() if name in known})
        rest = {name: value for name, value in told.items() if name not in vars(self.args)}
        self.args.resume = rest.pop("resume", "")
        self.optimizer, self.start = adamw(self.model), 0
        self.ema = self.task.setup_ema(decay=0.5) if rest.pop("ema", False) else None
        if self.args.resume:
            self.start = resume_checkpoint(self.model, self.args.resume, self.optimizer, log_info=False)
        self.data = images(60)
        self.loader = adopt(self.task, self.data, self.optimizer, self.args, **{"policy": POLICY, **EXACT, **rest})
        self.saver = None
        if folder is not None:
            self.saver = CheckpointSaver(self.model, self.optimizer, self.args, checkpoint_dir=folder, task=self.task)
        self.shapes: list[tuple[int, ...]] = []
        self.targets: list[Tensor] = []

    def train(self) -> Run:
        for epoch in range(self.start, EPOCHS):
            torch.manual_seed(epoch)
            self.task.train()
            for inputs, targets in self.loader:
                self.shapes.append(tuple(inputs.shape[1:]))
                self.targets.append(targets)
                self.optimizer.zero_grad()
                self.task(inputs, targets)["loss"].backward()
                self.optimizer.step()
                self.task.update_ema()
            if self.saver is not None:
                self.saver.save_checkpoint(epoch)
        return self


def by_hand(transform: Any) -> dict[str, Tensor]:
    model = vit()
    optimizer, data = adamw(model), images(60, transform)
    with Freezer(model, data, batch_size=20, epochs=EPOCHS, optimizer=optimizer, policy=POLICY, **EXACT) as freezer:
        for epoch in range(EPOCHS):
            torch.manual_seed(epoch)
            model.train()
            for inputs, targets in freezer.batches(epoch):
                optimizer.zero_grad()
                F.cross_entropy(freezer(inputs), targets).backward()
                optimizer.step()
            freezer.end_epoch()
    return model.state_dict()


def test_it_is_a_loop_of_ones_own_to_the_bit() -> None:
    run = Run().train()
    assert len(run.loader) == STEPS
    assert sorted(set(run.shapes)) == [(1, 28, 28), (17, 24)]
    run.loader.close()
    config = timm.data.resolve_data_config(vars(run.args))
    transform = timm.data.create_transform(
        config["input_size"], is_training=True, no_aug=True, mean=config["mean"], std=config["std"]
    )
    assert_same_tensors(run.model.state_dict(), by_hand(transform))
    assert all(p.requires_grad for p in run.model.parameters())


@pytest.mark.long
def test_cached_is_recomputed_to_the_bit_averages_too() -> None:
    cached, recomputed = (Run(mode=mode, ema=True).train() for mode in ("cache", "recompute"))
    assert_same_tensors(cached.model.state_dict(), recomputed.model.state_dict())
    assert_same_tensors(cached.ema.state_dict(), recomputed.ema.state_dict())
    assert cached.loader.freezer.depth == recomputed.loader.freezer.depth > 0


@pytest.mark.long
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_its_checkpoints_go_on_to_the_bit(epoch: int, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    whole = Run(folder=tmp_path, cache_dir=cache).train()
    saved = tmp_path / f"checkpoint-{epoch}.pth.tar"
    again = Run(vit(1), cache_dir=cache, resume=str(saved)).train()
    assert len(again.shapes) == STEPS * (EPOCHS - 1 - epoch)
    assert_same_tensors(again.model.state_dict(), whole.model.state_dict())
    plain = vit(1)
    plain.load_state_dict(torch.load(saved, weights_only=False)["state_dict"])  # the model's own names


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, pytest.param(STEPS, marks=pytest.mark.long)])
def test_other_batches_go_on_with_the_next_epoch(step: int, tmp_path: Path) -> None:
    """As the batches of more or fewer processes are; of an epoch that was broken off, too."""
    run = Run(folder=tmp_path)
    for _ in range(2):
        for number, _ in enumerate(run.loader, 1):
            if number == step:
                break
    run.saver.recovery_dir = str(tmp_path)  # type: ignore[union-attr]
    run.saver.save_recovery(1, step - 1)  # type: ignore[union-attr]
    again = Run(resume=str(tmp_path / f"recovery-1-{step - 1}.pth.tar"), batch_size=7)
    assert (again.start, len(again.loader)) == (2, 9)
    again.train()
    assert [sum(len(t) for t in again.targets[at : at + 9]) for at in (0, 9)] == [60, 60]


@pytest.mark.long
def test_a_recovery_goes_on_with_the_next_epoch(tmp_path: Path) -> None:
    """As timm's own loop does."""
    run = Run(folder=tmp_path)
    for _ in range(2):
        next(iter(run.loader))
    run.saver.recovery_dir = str(tmp_path)  # type: ignore[union-attr]
    run.saver.save_recovery(1, 0)  # type: ignore[union-attr]
    again = Run(resume=str(tmp_path / "recovery-1-0.pth.tar")).train()
    assert len(again.shapes) == 2 * STEPS


@pytest.mark.long
def test_frozen_layers_of_its_own() -> None:
    """`timm.utils.freeze` puts other batch norms in the place of those that it freezes."""
    runs = []
    for mode in ("cache", "recompute"):
        model = convolutional()
        freeze(model, ["conv_stem", "bn1", "blocks.0"])
        assert any(type(module).__name__ == "FrozenBatchNormAct2d" for module in model.modules())
        runs.append(Run(model, policy="frozen", mode=mode).train())
    assert_same_tensors(runs[0].model.state_dict(), runs[1].model.state_dict())
    assert [run.loader.freezer.depth > 0 for run in runs] == [True, True]
    assert len(set(runs[0].shapes)) == 1


def test_mixed_batches() -> None:
    told = {"mixup": 0.8, "cutmix": 1.0, "mixup_switch_prob": 0.5, "mixup_prob": 0.5, "mixup_mode": "batch"}
    model = vit()
    task = ClassificationTask(model, SoftTargetCrossEntropy(), verbose=False)
    loader = adopt(task, images(60), adamw(model), args_of(**told), policy={1: "blocks.0"}, **EXACT)
    assert loader.mixup_enabled
    targets = [t for _ in range(EPOCHS) for _, t in loader]
    assert all(t.shape == (20, 10) and torch.allclose(t.sum(1), torch.ones(20)) for t in targets)
    assert all(bool((t >= 0.1 / 10 - 1e-6).all()) for t in targets)  # smoothed
    assert any(bool(((t > 0.02) & (t < 0.9)).any()) for t in targets)
    loader.close()


@pytest.mark.slow
def test_mixed_batches_are_of_features_as_they_are_of_images() -> None:
    told = {"mixup": 0.8, "cutmix": 1.0, "mixup_mode": "batch", "policy": {1: "blocks.0"}}
    runs = [Run(mode=mode, criterion=SoftTargetCrossEntropy(), **told).train() for mode in ("cache", "recompute")]
    assert_same_tensors(runs[0].model.state_dict(), runs[1].model.state_dict())
    assert len(set(runs[0].shapes)) == 2


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"mixup": 0.8, "prefetcher": False}, r"args.prefetcher=False: batches are mixed by the freezer"),
        ({"mixup": 0.8, "mixup_mode": "elem"}, r"args.mixup_mode='elem'"),
        ({"cutmix": 1.0, "mixup_off_epoch": 3}, r"args.mixup_off_epoch=3"),
        ({"distributed": True}, r"args.distributed=True, and the task's model is not wrapped"),
        ({"aug_splits": 3}, r"args.aug_splits=3 is not supported"),
        ({"aug_repeats": 2}, r"args.aug_repeats=2 is not supported"),
        ({"channels_last": True}, r"channels_last is for feature maps, and at cut 'patch_embed'"),
    ],
)
def test_arguments_that_are_refused(told: dict[str, Any], message: str) -> None:
    model = vit()
    task = ClassificationTask(model, nn.CrossEntropyLoss(), verbose=False)
    with pytest.raises(ArgumentError, match=message):
        adopt(task, images(60), adamw(model), args_of(**told), **EXACT)


def test_models_beside_the_one_that_trains_are_refused() -> None:
    task = LogitDistillationTask(vit(), vit(1), criterion=nn.CrossEntropyLoss(), verbose=False)
    with pytest.raises(ArgumentError, match="'teacher' is a model beside the one that trains"):
        adopt(task, images(60), adamw(task.get_trainable_module()), args_of())


def test_what_is_no_task_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"adopt takes a task of timm.task, ClassificationTask say, not Linear"):
        adopt(nn.Linear(1, 1), images(60), None, args_of())  # type: ignore[arg-type]


def test_policies_that_split_groups_are_refused() -> None:
    model = vit()
    task = ClassificationTask(model, nn.CrossEntropyLoss(), verbose=False)
    with pytest.raises(ArgumentError, match="splits the optimizer's groups"):
        adopt(task, images(60), adamw(model), args_of(), policy="freezeout", **EXACT)


def test_two_doors_are_refused() -> None:
    run = Run()
    with pytest.raises(ArgumentError, match=r"timm.Loader feeds this VisionTransformer already"):
        adopt(run.task, images(60), run.optimizer, run.args)
    run.loader.close()
    for _ in range(2):
        with pytest.raises(UnknownCutError) as refused:  # and the one that was refused feeds nothing
            adopt(run.task, images(60), run.optimizer, run.args, policy={1: "nothing"}, verbose=False)
        assert refused.tb is not None


def test_copies_of_the_model_are_not_routed() -> None:
    run = Run(policy={0: "blocks.0"})
    features, _ = next(iter(run.loader))
    twin = copy.deepcopy(run.model)
    run.model(features)
    with pytest.raises((AssertionError, RuntimeError, ValueError)):
        twin(features)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.task", None)
    monkeypatch.delitem(sys.modules, "hoarfrost.integrations.timm")
    with pytest.raises(HoarfrostError, match=r"pip install 'hoarfrost\[timm\]'"):
        importlib.import_module("hoarfrost.integrations.timm")
