"""timm's training script: one line that puts a freezer's loader in the place of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torchvision.transforms.v2 as v2
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..errors import ArgumentError
from ..freezer import Freezer
from ..freezing import undistributed
from .doors import hold, needs, release

with needs("timm"):
    from timm.data import create_transform, resolve_data_config
    from timm.task import TrainingTask
    from timm.utils import unwrap_model
    from timm.utils.checkpoint_saver import load_checkpoint_metadata

__all__ = ["Loader", "adopt"]

AUGMENTATION = {
    **{name: name for name in ("no_aug", "train_crop_mode", "scale", "ratio", "hflip", "vflip", "color_jitter")},
    **{name: name for name in ("color_jitter_prob", "grayscale_prob", "gaussian_blur_prob")},
    "auto_augment": "aa",
    "re_prob": "reprob",
    "re_mode": "remode",
    "re_count": "recount",
}
"""What `create_transform` is told of the script's arguments, and their names there."""

KEY = "hoarfrost"
"""Of a freezer's state within a saved optimizer's."""


def adopt(task: TrainingTask, dataset_train: Dataset[Any], optimizer: Any, args: Any, **keywords: Any) -> Loader:
    """The loader that a task of timm's is trained on, with layers freezing on the way.

    ```python
    loader_train = adopt(task, dataset_train, optimizer, args, cache_dir="cache")   # behind create_loader
    ```

    Taken from `args`, as `train.py` does: the augmentation (`create_transform`, normalised at once: no prefetcher),
    MixUp and CutMix of batches, epochs, batch size, workers, seed, precision. `CheckpointSaver` saves what was decided
    within the optimizer's state, which shows all parameters whatever is frozen; `args.resume` goes on with it. Several
    processes share each epoch's samples, none twice: adopt the task behind `task.prepare_distributed`.

    Args:
        keywords: of `hoarfrost.Freezer`; they go before `args`.

    Raises:
        ArgumentError: of the task or of `args`, what stored features cannot be trained on.
    """
    model = _model_of(task)
    _check(task, model, optimizer, args)
    config = resolve_data_config(vars(args), model=unwrap_model(model))
    mix = _mix_of(args)
    dataset_train.transform = _transform_of(args, config)  # type: ignore[attr-defined]  # as create_loader does
    told = {
        "batch_size": args.batch_size,
        "epochs": args.epochs + (_told(args, "cooldown_epochs") or 0),
        "workers": _told(args, "workers") or 0,
        "seed": _told(args, "seed") or 0,
        "channels_last": bool(_told(args, "channels_last")),
        "precision": _precision_of(args),
        "mix": mix,
        **keywords,
    }
    loader = Loader(model, dataset_train, optimizer, told, (_told(args, "smoothing") or 0.0) if mix else 0.0)
    if _told(args, "resume"):
        loader.resume(args.resume, _told(args, "start_epoch"))
    return loader


class Loader:
    """A freezer's epochs, as `train_one_epoch` takes them: (input, target), with a length.

    Args:
        told: the Freezer's keywords.
        smoothing: of the targets of mixed batches.

    Attributes:
        mixup_enabled: whether batches are mixed.
        freezer: behind it; `end_epoch(metrics)` gives a policy the metrics that it asks for.
    """

    def __init__(
        self, model: nn.Module, dataset: Dataset[Any], optimizer: Any, told: dict[str, Any], smoothing: float = 0.0
    ) -> None:
        self._model, whole = undistributed(model), _Whole(optimizer)
        self.mixup_enabled, self._smoothing = told["mix"] is not None, smoothing
        with hold(self._model, self):
            self.freezer = Freezer(model, dataset, optimizer=optimizer, route=True, **told)
            try:
                whole.watch(self.freezer)
                flat = [cut.label for cut in self.freezer.cuts if len(cut.shape) != 3]
                if flat and told["channels_last"]:
                    raise ArgumentError(
                        f"channels_last is for feature maps, and at cut {flat[0]!r} there are tokens: leave it out"
                    )
            except ArgumentError:
                self.freezer.close()
                raise

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.freezer.loader)

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        for inputs, targets in self.freezer.loader:
            if self._smoothing:
                targets = targets * (1 - self._smoothing) + self._smoothing / targets.shape[1]
            yield inputs, targets

    @property
    def dataset(self) -> Dataset[Any]:
        return self.freezer.loader.dataset

    @property
    def sampler(self) -> Loader:
        """Where the script, in several processes, looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """The next iteration shows this epoch."""
        self.freezer.loader.set_epoch(epoch)

    def resume(self, path: str, start_epoch: int | None = None) -> None:
        """Go on behind a checkpoint of which weights and the optimizer's state are loaded already.

        Args:
            start_epoch: that comes; None: the one behind the checkpoint's, whether that was whole or not.
        """
        saved = load_checkpoint_metadata(path)
        state = saved.get("optimizer", {}).get(KEY)
        if state is not None:
            self.freezer.load_state_dict(state)
        self.set_epoch(int(saved["epoch"]) + 1 if start_epoch is None else start_epoch)

    def close(self) -> None:
        """The model is as it was but for its weights, and the data set has its transform back."""
        self.freezer.close()
        release(self._model, self)


class _Whole:
    """Lets an optimizer save its state with all parameters that it began with, frozen or not.

    The script loads that state into a new optimizer before the front is frozen again, so that it has to fit one.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._groups = [list(group["params"]) for group in optimizer.param_groups]
        self._names = [list(group.get("param_names", ())) for group in optimizer.param_groups]

    def watch(self, freezer: Freezer) -> None:
        """From now on.

        Raises:
            ArgumentError: the policy has split the groups.
        """
        if len(self._optimizer.param_groups) != len(self._groups):
            raise ArgumentError(
                "a policy that sets a learning rate for each segment splits the optimizer's groups, and timm loads a "
                "saved state into groups that are not split: take another policy"
            )
        self._optimizer.register_state_dict_post_hook(
            lambda _, state: {**self._whole(state), KEY: freezer.state_dict()}
        )

    def _whole(self, state: dict[str, Any]) -> dict[str, Any]:
        now = _numbers([group["params"] for group in self._optimizer.param_groups])
        whole = _numbers(self._groups)
        groups = []
        for group, parameters, names in zip(state["param_groups"], self._groups, self._names, strict=True):
            groups.append({**group, "params": [whole[id(parameter)] for parameter in parameters]})
            if names:
                groups[-1]["param_names"] = names
        held = {whole[key]: state["state"][number] for key, number in now.items() if number in state["state"]}
        return {**state, "state": held, "param_groups": groups}


def _numbers(groups: list[list[Any]]) -> dict[int, int]:
    """The number of each parameter in a saved state."""
    return {key: n for n, key in enumerate(dict.fromkeys(id(p) for parameters in groups for p in parameters))}


def _told(args: Any, name: str) -> Any:
    return getattr(args, name, None)


def _model_of(task: Any) -> nn.Module:
    if not isinstance(task, TrainingTask):
        raise ArgumentError(f"adopt takes a task of timm.task, ClassificationTask say, not {type(task).__name__}")
    model = task.get_trainable_module()
    if not isinstance(model, nn.Module) or model is task:
        raise ArgumentError(
            f"{type(task).__name__} has no trainable module of its own: get_trainable_module() has to give the model "
            "that its forward calls with the input"
        )
    return model


def _check(task: TrainingTask, model: nn.Module, optimizer: Any, args: Any) -> None:
    """Raises: ArgumentError: something would meet features where it wants images."""
    own = {
        id(module) for ema in (False, True) for module in (task.get_trainable_module(ema), task.get_eval_model(ema=ema))
    }
    for name, module in task.named_children():
        if id(module) not in own and name != "criterion" and next(module.parameters(), None) is not None:
            raise ArgumentError(
                f"{type(task).__name__}: {name!r} is a model beside the one that trains, and would get stored features "
                "in the place of images: adopt a task of one model, ClassificationTask say"
            )
    if hasattr(optimizer, "base_optimizer"):
        raise ArgumentError(
            f"{type(optimizer).__name__} keeps weights of its own by parameter: take the optimizer in it"
        )
    if _told(args, "distributed") and undistributed(model) is model:
        raise ArgumentError(
            "args.distributed=True, and the task's model is not wrapped: adopt it behind task.prepare_distributed(...)"
        )
    for name, why in (
        (
            "aug_splits",
            "its splits are one batch of several renditions, and features are stored by sample: leave it out",
        ),
        ("aug_repeats", "its sampler shows a sample several times in a batch; say views= instead"),
    ):
        if _told(args, name):
            raise ArgumentError(f"args.{name}={_told(args, name)!r} is not supported: {why}")


def _transform_of(args: Any, config: dict[str, Any]) -> Any:
    """The script's augmentation, of one sample, normalised."""
    told = {name: _told(args, its) for name, its in AUGMENTATION.items() if hasattr(args, its)}
    interpolation = (not _told(args, "no_aug") and _told(args, "train_interpolation")) or config["interpolation"]
    return create_transform(
        config["input_size"],
        is_training=True,
        interpolation=interpolation,
        mean=config["mean"],
        std=config["std"],
        use_prefetcher=False,
        **told,
    )


def _mix_of(args: Any) -> Any:
    """timm's Mixup of whole batches as torchvision's, which the Freezer takes; None: none.

    Raises:
        ArgumentError: it is another kind of mixing, or the loop would mix again.
    """
    mixup, cutmix = _told(args, "mixup") or 0.0, _told(args, "cutmix") or 0.0
    if not mixup and not cutmix and not _told(args, "cutmix_minmax"):
        return None
    for name, right in (("cutmix_minmax", None), ("mixup_mode", "batch"), ("mixup_off_epoch", 0), ("prefetcher", True)):
        given = getattr(args, name, right)
        if given != right and (given or right):
            raise ArgumentError(
                f"args.{name}={given!r}: batches are mixed by the freezer, of images and of features alike, with "
                f"args.{name}={right!r}; take that, or train without mixup and cutmix"
            )
    kinds = [v2.MixUp(alpha=mixup, num_classes=args.num_classes)] if mixup else []
    kinds += [v2.CutMix(alpha=cutmix, num_classes=args.num_classes)] if cutmix else []
    switch = getattr(args, "mixup_switch_prob", 0.5)
    mix: Any = kinds[0] if len(kinds) == 1 else v2.RandomChoice(kinds, p=[1 - switch, switch])
    share = getattr(args, "mixup_prob", 1.0)
    return mix if share >= 1 else v2.RandomApply([mix], p=share)


def _precision_of(args: Any) -> str | None:
    if not _told(args, "amp"):
        return None
    dtype = str(_told(args, "amp_dtype") or "float16")
    return {"float16": "fp16", "bfloat16": "bf16"}[dtype.removeprefix("torch.")]
