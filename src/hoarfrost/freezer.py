"""The object that a training loop talks to."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .cache import Cache
from .codecs import Codec, Ladder, harm_of
from .costs import Clock
from .cuts import Cut, bare, unsynchronised
from .errors import ArgumentError
from .feeding import Components, EpochLoader, Epochs, Evaluation, Feeder, Notice, mixing_of
from .freezing import Front, HasParamGroups, TrainingPrecision, undistributed
from .policies import Asking, Never, Policy, resolve_policy
from .samples import Input, TrainingData, UserLoader, device_of
from .settings import Chunks, Noise, Settings, Views, fields_of, from_flat, takes_method
from .storing import cache_directory, offered
from .watching import Measurements

__all__ = ["Freezer"]


class Freezer:
    """Freezes front layers as they settle, stores what they produce, and feeds the rest from the store.

    ```python
    freezer = hoarfrost.Freezer(model, train_set, batch_size=128, epochs=30, optimizer=optimizer, cache_dir="cache")
    for epoch in range(30):
        for inputs, targets in freezer.batches(epoch):      # images at first, stored features later
            loss = criterion(freezer(inputs), targets)      # only what still trains runs
            loss.backward(); optimizer.step(); optimizer.zero_grad()
        freezer.end_epoch({"val_loss": evaluate(model)})    # may freeze more; the next batch stores it
    ```

    `model` stays the user's: evaluate, save and export it as ever. The settings explain what is not explained here:

    - when to freeze, and where, `hoarfrost.settings.Freezing`: policy, epochs, settle, max_tensors, cuts, method, ...;
    - what is stored, `Storing`: views, ladder, tolerance, harm, mode, cache_dir, disk_budget, over_budget, stale, ...;
    - how samples become batches, `Reading`: batch_size, window, chunks, noise, memory_budget;
    - how images are made, `Rendering`: seed, device, workers, channels_last, precision, on_bad_sample.

    Args:
        model: any module whose forward takes a batch: one tensor, several, or keywords.
        dataset: map-style; its inputs are read until a cache stands, and not again. Items are (input, target) or any
            tuples, mappings, dataclasses: a tuple's first is the input, of the others what the model's forward takes;
            the rest is carried by sample and comes back in each batch. Or a DataLoader, of which all of that is taken.
        transform: the augmentation. None: the data set's own `transform` is taken over until `close`.
        optimizer: frozen parameters leave it and their state is freed; the others' state is untouched.
        criterion: of outputs and targets, as the loop calls it; tells what the outputs are, and is a trial's loss.
        mix: torchvision's `v2.MixUp` or `v2.CutMix`, or a `v2.RandomChoice` of them, for each batch: of images first,
            of features later, drawn by seed, epoch and step. Targets become probabilities [B, classes].
        input: its keys, where they cannot be told; ((0,), (1,)) for two calls, mappings of keywords to keys likewise.
        collate_fn: makes a batch of items; None: torch's.
        verbose: say what was taken over, what becomes of each step, and what is frozen why (logger "hoarfrost", INFO).

    Raises:
        ArgumentError: an argument of the wrong kind or out of range.
        NoCutError: the model has no place where it can be divided, and the policy is not "none".
        DatasetError, UnstableDataError, ImageShapeError: the data cannot be trained on as they are.
        PolicyError, UnknownCutError: the policy asks for what the model does not have.
        CacheDirectoryError: `cache_dir` is a file or cannot be written.
    """

    @unsynchronised()
    @takes_method
    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset[Any] | DataLoader[Any],
        *,
        batch_size: int | None = None,
        epochs: int | None = None,
        transform: Callable[[Any], Any] | None = None,
        policy: str | Policy | Mapping[int, str | int] = "schedule",
        optimizer: HasParamGroups | None = None,
        cache_dir: str | Path | None = None,
        local_dir: str | Path | None = None,
        local_budget: int | None = None,
        disk_budget: int | None = None,
        over_budget: str | Sequence[str] = ("views", "recompute"),
        memory_budget: int = 256 << 20,
        build_from: str = "images",
        stale: str = "rebuild",
        views: int | str | Views | Mapping[str, Any] = "auto",
        ladder: str | int | Codec | Ladder | Sequence[int | Codec] = "auto",
        mode: str = "auto",
        settle: str = "auto",
        seed: int = 0,
        device: str | torch.device | None = None,
        window: int = 16,
        chunks: int | Chunks | Mapping[str, Any] = 64,
        noise: float | Noise | Mapping[str, Any] = 0.0,
        tolerance: float = 1e-3,
        harm: str | Callable[..., Any] = "auto",
        workers: int = 0,
        channels_last: bool = False,
        precision: str | None = None,
        on_bad_sample: str = "error",
        max_tensors: int = 1,
        cuts: str | Sequence[str] | None = None,
        on_changed_front: str = "rebuild",
        keep_frozen: bool = False,
        route: bool = False,
        method: str | None = None,
        mix: Any = None,
        criterion: Callable[..., Any] | None = None,
        input: Input | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        verbose: bool = True,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ArgumentError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        harm, loader = harm_of(harm, criterion), UserLoader.of(dataset, batch_size, collate_fn, workers)
        batch_size, workers = loader.batch_size, loader.workers.count
        # The other keywords are the fields of the settings, which check them.
        told = from_flat(Settings, {name: value for name, value in locals().items() if name in fields_of(Settings)})
        self._mixing = mixing_of(mix, loader.dataset, told.freezing)
        self.model, model, self.optimizer, self.epochs = model, bare(undistributed(model)), optimizer, epochs
        self.policy, self.seed, self.precision = resolve_policy(told.freezing.policy), seed, precision
        self.device = torch.device(device) if device is not None else device_of(model)
        self.history: list[dict[str, Any]] = []
        """One record an event, as written to metrics.jsonl (docs/design/records.md)."""
        self.listener: Callable[[dict[str, Any]], None] | None = None
        """Called with each record as it is made."""
        self._data = TrainingData.of(loader, transform, told, self.device, model, input)
        self._notice = Notice(verbose and self._data.ranks.leads)
        self._clock, self._undo = Clock(), ExitStack()
        self._undo.callback(self._data.close)
        try:
            self.batch_size = self._data.batch_size
            directory, remove = cache_directory(told.storing, self._data.ranks)
            self._undo.callback(weakref.finalize(self, remove))  # a temporary one; also where nobody calls `close`
            steps_in = TrainingPrecision(precision, self.device)
            with steps_in.now.autocast():
                self.cuts: tuple[Cut, ...] = offered(model, self._data, told, needed=self.policy != Never())
            stored = 0 if mode == "recompute" else told.storing.views.asked
            known = model, self.cuts, self._data, optimizer, criterion or harm
            measurements = Measurements(
                *known, views=stored, history=lambda: self.history, clock=self._clock, precision=steps_in
            )
            self._asking = Asking(self.policy, model, self.cuts, self._data, optimizer, epochs, measurements)
            self._undo.callback(self._asking.close)
            self._front = Front(
                *(self.model, self.cuts, self._data.example, optimizer, settle, self._data.samples.form.keyword),
                *(keep_frozen, route, steps_in, self._data.other_lengths, self._data.other_sizes),
            )
            self._undo.callback(self._front.close)
            self._feeder = Feeder(self._data, self._front, told, directory, self._mixing, self._record)
            self._undo.callback(self._feeder.close)
            parts = self._data, self.cuts, self._asking, self._front, self._feeder, self._clock, self._record
            self._epochs = Epochs(Components(*parts, told.freezing.on_changed_front), epochs)
            self.loader = EpochLoader(self._epochs, self._data)
            self._undo.callback(self.loader.close)
            """The epochs one by one, as from a DataLoader: for loops that are written so, `end_epoch` not needed."""
        except BaseException:
            self.close()
            raise
        self._notice.say(self.describe())

    def batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """An epoch's batches, from 0, on the device: (images [B, C, H, W] or features [B, ...], targets [B, ...]).

        Features are a tuple where several tensors cross the cut. Of items that are no pairs a batch is what
        `collate_fn` makes, features in the input's place. Seed and epoch say the order; `start`: batches to skip.
        """
        yield from self._epochs.batches(epoch, start)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """The model's output for what `batches` gave, called as it is: all of it on inputs, the suffix on features."""
        return self._front(*args, **keywords)

    def autocast(self) -> AbstractContextManager[object]:
        """That of `precision=`, which the loss wants around it as well; nothing where none was told."""
        return self._front.precision.autocast()

    def route(self) -> None:
        """From now on `model(x)` is `freezer(x)` for what `batches` gives, and the whole model for its inputs.

        Raises:
            InvalidCutError: features look like inputs, here or at a later freeze.
        """
        self._front.route()

    def end_epoch(self, metrics: Mapping[str, float] | None = None) -> None:
        """Close the epoch: record it, ask the policy, freeze if it says so, and decide what the next batch stores.

        Args:
            metrics: what the policy and the records should see, such as {"val_loss": ...}.
        """
        self._epochs.end({} if metrics is None else metrics)

    def decide(self, *, store: bool = False) -> None:
        """What `end_epoch` decides, now, before a first state is saved. `store`: and build it now, too."""
        self._epochs.decide(store=store)

    def evaluation(
        self,
        dataset: Dataset[Any] | DataLoader[Any],
        transform: Callable[[Any], Any] | None = None,
        *,
        batch_size: int = 256,
        codec: int | str | Codec = 8,
    ) -> Evaluation:
        """Batches of (inputs, targets) for `freezer(inputs)` in eval: images at first, stored features behind a freeze.

        Args:
            transform: a deterministic one. None: the data set's own.
            codec: of what is stored: "exact" for the model's own bits, or a number of bits.
        """
        return self._feeder.evaluation(self.model, dataset, transform, batch_size, codec)

    @property
    def cache(self) -> Cache | None:
        """The stored features that are being read, or None."""
        return self._feeder.cache

    @property
    def depth(self) -> int:
        """How much is frozen: everything in front of `cuts[depth - 1]`; 0 is nothing."""
        return self._front.depth

    @property
    def cut(self) -> Cut | None:
        """Where the model is divided now, or None."""
        return self._front.cut

    @property
    def source(self) -> str:
        """What `batches` gives now: "images", "cache", or "recompute" (features of fresh renditions)."""
        return self._epochs.source

    @property
    def training_seconds(self) -> float:
        """Wall seconds of all epochs, calibrations and builds so far; evaluation is the loop's own."""
        return self._clock.total_seconds

    @property
    def batches_per_epoch(self) -> int:
        """How many batches `batches` gives in the epoch that comes; by a batch sampler of one's own they may differ."""
        return self._epochs.steps

    def step_flops(self) -> int:
        """FLOPs of a training step as it runs now, per sample; the prefix's forward where it is run too."""
        return self._feeder.step_flops(self.model)

    def describe(self) -> list[str]:
        """What is done with items, each step of the transform, and each batch, one line each."""
        return [*self._data.describe(), *self._feeder.describe()]

    def state_dict(self) -> dict[str, Any]:
        """All that was decided, and how far it is, to go on from; JSON, but for what the policy remembers."""
        return {"history": list(self.history), **self._epochs.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`. Order: model weights first, then this (it freezes), then the optimizer's state.

        The cache is opened again where its fingerprint fits, and built again where it is gone.

        Raises:
            CheckpointError: the state belongs to another model, data set or seed, or is none.
        """
        self._epochs.load_state_dict(state)
        self.history = [dict(record) for record in state["history"]]

    def thaw(self) -> None:
        """Everything trains again, on images, from the next batch on; what was stored is removed.

        The policy is heard again once it asks for another depth than it did last.
        """
        self._epochs.thaw()

    def close(self, keep_frozen: bool | None = None) -> None:
        """Give the data set its transform back, and the model as it was but for its weights; remove a temporary cache.

        `keep_frozen` says whether the front stays frozen; None: as the constructor was told.
        """
        if keep_frozen is not None:
            self._front.keep = keep_frozen
        self._undo.close()

    def __enter__(self) -> Freezer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(self, record: dict[str, Any]) -> None:
        self.history.append(record)
        self._notice.hear(record)
        if self.listener is not None:
            self.listener(record)
