"""The object that a training loop talks to."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from .augment import Mixing
from .cache import Cache
from .codecs import Codec, Ladder
from .costs.clock import Clock
from .costs.flops import training_flops
from .cuts import Cut, find_cuts
from .errors import ArgumentError, CheckpointError, NoCutError
from .feeding.evaluation import Evaluation
from .feeding.feeder import Feeder
from .freezing.division import Division
from .freezing.front import Front
from .freezing.statistics import SETTLE
from .policies import Never, Policy, TrainState, resolve_policy
from .policies.asking import checked_depth, observer_for
from .policies.policy import announced_change, describe, interval, may_thaw, prepared
from .samples.dataset import Samples
from .samples.derivation import Way, grid_of
from .samples.order import Order, batch_bounds, usable_batch_size
from .settings import OverBudget, Views
from .storing.storage import prepare_directory
from .watching import PROBE
from .watching import Measurements as Workbench

__all__ = ["Freezer"]

MODES = ("auto", "cache", "recompute")
BUILDS = ("images", "features")

STATE_VERSION = 2

EXAMPLES = 8
"""Images that cuts are found and verified on."""


Batches = Generator[tuple[Any, Tensor], None, None]


class HasParamGroups(Protocol):
    """What Hoarfrost needs of an optimizer."""

    param_groups: list[dict[str, Any]]
    state: Any


class Freezer:
    """Freezes front layers as they settle, stores what they produce, and feeds the rest from the store.

    ```python
    freezer = hoarfrost.Freezer(model, train_set, batch_size=128, epochs=30, optimizer=optimizer, cache_dir="cache")
    for epoch in range(30):
        for inputs, targets in freezer.batches(epoch):      # images at first, stored features later
            loss = criterion(freezer(inputs), targets)      # only what still trains runs
            loss.backward(); optimizer.step(); optimizer.zero_grad()
        freezer.end_epoch({"val_loss": evaluate(model)})    # may freeze more, may build a cache
    ```

    `model` stays the user's: evaluate, save and export it as ever.

    Args:
        model: any module whose forward takes one batch of images [B, ...].
        dataset: map-style, giving (image, target); its images are read until a cache stands, and not again.
        batch_size: samples a batch; a larger number than the data set has gives one batch an epoch.
        epochs: how many there will be. The default policy needs it, and the cost model uses it.
        transform: the augmentation. None: the data set's own `transform` is taken over until `close`.
        policy: a name of `hoarfrost.policies.NAMED`, a mapping {epoch: cut}, a `hoarfrost.Policy`, or a function
            TrainState -> depth.
        optimizer: frozen parameters leave it and their state is freed; the others' state is untouched.
        cache_dir: where features are stored. None: a temporary directory, removed by `close`.
        disk_budget: bytes that the stored features may take.
        over_budget: what to do, in this order, where that is too little: "views" (store fewer), "rung" (compress
            beyond the tolerance), "cut" (freeze up to a deeper recommended cut) and "recompute", which is also the end
            of every order.
        memory_budget: bytes of stored features that are kept in memory once they were read, so that later epochs need
            not read them; 0 keeps none. Beside it an epoch holds two windows of the shuffle.
        build_from: what the cache of a deeper cut is made from: "images", or the stored "features" of the cut before,
            which takes less time and keeps what their codec has done; that is measured, and where both together go
            beyond twice the tolerance images are taken.
        views: stored renditions of each sample, a number or `hoarfrost.Views`.
        ladder: codecs from gentle to strong: "auto" (the strongest that does no measured harm), another name, a
            codec, or a number of bits; see `hoarfrost.codecs.Ladder`.
        mode: "auto" measures and takes the cheaper; "cache" and "recompute" force it.
        settle: what the front is frozen as: its last weights, with the "statistics" of its batch norms estimated anew
            from up to 1,024 images; its "last" weights and running statistics; or the "average" of its weights over
            the last epoch, with statistics of these.
        seed: of orders and renditions.
        device: where the model is; None: where its parameters are.
        window: chunks of 64 samples that are mixed by the shuffle.
        tolerance: harm that the ladder's rung may do: mean KL divergence of the outputs, in nats.
        workers: processes that read and render images ahead.
        channels_last: hand images to the model in that memory format (faster convolutions on most devices).
        max_tensors: how many tensors may cross a cut, as in `find_cuts`; `batches` then gives tuples of features.
        mix: torchvision's `v2.MixUp` or `v2.CutMix`, or a `v2.RandomChoice` of them, for each batch: of images first,
            of features later. Targets become probabilities [B, classes]; which samples are mixed, and how, belongs to
            the seed, the epoch and the step.

    Raises:
        ArgumentError: an argument of the wrong kind or out of range.
        NoCutError: the model has no place where it can be divided, and the policy is not "none".
        DatasetError, UnstableDataError, ImageShapeError: the data cannot be trained on as they are.
        PolicyError, UnknownCutError: the policy asks for what the model does not have.
        CacheDirectoryError: `cache_dir` is a file or cannot be written.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset[Any],
        *,
        batch_size: int,
        epochs: int | None = None,
        transform: Callable[[Any], Any] | None = None,
        policy: str | Policy | Mapping[int, str | int] = "schedule",
        optimizer: HasParamGroups | None = None,
        cache_dir: str | Path | None = None,
        disk_budget: int | None = None,
        over_budget: str | Sequence[str] = ("views", "recompute"),
        memory_budget: int = 256 << 20,
        build_from: str = "images",
        views: int | Views = 2,
        ladder: str | int | Codec | Ladder | Sequence[int | Codec] = "auto",
        mode: str = "auto",
        settle: str = "statistics",
        seed: int = 0,
        device: str | torch.device | None = None,
        window: int = 16,
        tolerance: float = 1e-3,
        workers: int = 0,
        channels_last: bool = False,
        max_tensors: int = 1,
        mix: Any = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ArgumentError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ArgumentError(f"batch_size must be a whole number of at least 1, not {batch_size!r}")
        if epochs is not None and (isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1):
            raise ArgumentError(f"epochs must be a whole number of at least 1, or None, not {epochs!r}")
        if mode not in MODES:
            raise ArgumentError(f"mode must be one of {', '.join(map(repr, MODES))}, not {mode!r}")
        if build_from not in BUILDS:
            raise ArgumentError(f"build_from must be one of {', '.join(map(repr, BUILDS))}, not {build_from!r}")
        if settle not in SETTLE:
            raise ArgumentError(f"settle must be one of {', '.join(map(repr, SETTLE))}, not {settle!r}")
        if disk_budget is not None and disk_budget < 0:
            raise ArgumentError(f"disk_budget is a number of bytes, at least 0, not {disk_budget!r}")
        if memory_budget < 0:
            raise ArgumentError(f"memory_budget is a number of bytes, at least 0, not {memory_budget!r}")
        if window < 1:
            raise ArgumentError(f"window must be at least 1 chunk, not {window!r}")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ArgumentError(f"seed must be a whole number, not {seed!r}")
        wanted_views, wanted_ladder, less = Views.of(views), Ladder.of(ladder), OverBudget.of(over_budget)
        classes = getattr(dataset, "classes", None)
        self._mixing = None if mix is None else Mixing.of(mix, None if classes is None else len(classes))
        if self._mixing is not None and max_tensors > 1:
            raise ArgumentError("mix needs cuts that one tensor crosses: leave max_tensors at 1")
        self.model = model
        self.epochs = epochs
        self.policy = resolve_policy(policy)
        self.optimizer = optimizer
        self.seed = seed
        self.device = torch.device(device) if device is not None else device_of(model)
        self.channels_last = channels_last
        self.history: list[dict[str, Any]] = []
        """One record an event, as written to metrics.jsonl (docs/design/rooms.md, Records)."""
        self.listener: Callable[[dict[str, Any]], None] | None = None
        """Called with each record as it is made."""
        self._metrics: list[Mapping[str, float]] = []
        self._epoch = 0
        self._asked = -1, 0
        self._midway = False
        """Whether the depth has changed within the epoch: the rest of it is rendered, and what is frozen runs on it."""
        self._policy_depth = 0
        self._clock = Clock()
        self._remove_cache: Callable[[], object] = lambda: None
        self._stop_watching: Callable[[], object] = lambda: None
        self._closed = False
        self._mode = mode
        self._evaluations: list[Evaluation] = []
        self._samples = Samples(dataset, transform, workers)
        try:
            self.batch_size = usable_batch_size(batch_size, len(self._samples))
            self._cache_dir = self._directory(cache_dir)
            self._example = self._render_example()
            self.cuts: tuple[Cut, ...] = storable(find_cuts(model, self._example, max_tensors=max_tensors))
            if not self.cuts and self.policy != Never():
                raise NoCutError(
                    f"{type(model).__name__} has no place where it can be divided: in no module of it is the output "
                    'the only tensor that the rest needs. Train it as it is, or with policy="none"'
                )
            prepared(self.policy, self.cuts, epochs)
            steps = self.batches_per_epoch
            self._workbench = Workbench(
                model,
                self.cuts,
                self._example,
                optimizer,
                batches=lambda: self._live_batches(self._asked[0], 0),
                samples=len(self._samples),
                views=0 if mode == "recompute" else wanted_views.count,
                history=lambda: self.history,
                clock=self._clock,
            )
            self._every_steps = interval(self.policy)
            self._observer = observer_for(
                self.policy, model, self.cuts, self._example, self._probe, optimizer, epochs, steps
            )
            self._stop_watching = self._observer.close
            self._front = Front(model, self.cuts, self._example, optimizer, settle)
            self._feeder = Feeder(
                self._samples,
                Order(len(self._samples), seed, window=window),
                batch_size=self.batch_size,
                views=wanted_views,
                ladder=wanted_ladder,
                tolerance=tolerance,
                mode=mode,
                cache_dir=self._cache_dir,
                disk_budget=disk_budget,
                over_budget=less,
                memory_budget=memory_budget,
                build_from=build_from,
                seed=seed,
                device=self.device,
                channels_last=channels_last,
                frame=self._samples.frame(self._example),
                say=self._record,
            )
            self._ask(0)
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------------ what a loop calls

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, Tensor]]:
        """The epoch's batches, on the device: images [B, C, H, W] or features [B, ...], and targets [B, ...].

        Where several tensors cross the cut, features are a tuple of them.

        Every sample comes once. The order depends on the seed and the epoch only.

        Args:
            epoch: from 0.
            start: batches to skip, to resume in the middle of an epoch.
        """
        for name, value in (("epoch", epoch), ("start", start)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ArgumentError(f"{name} must be a whole number from 0 on, not {value!r}")
        if self._closed:
            raise ArgumentError("the freezer is closed: the data set has its transform back, and the cache may be gone")
        if epoch != self._epoch:
            self._epoch, self._midway = epoch, False
        self._ask(epoch)
        if not self._midway:
            self._settle(epoch)
        with self._clock.training(live=self._division is None):
            yield from self._observer.counted(self._asking(epoch, start), epoch, start)

    def __call__(self, inputs: Tensor | tuple[Tensor, ...]) -> Any:
        """The model's output for what `batches` gave: the whole model on images, the suffix on features."""
        return self._front(inputs)

    def end_epoch(self, metrics: Mapping[str, float] | None = None) -> None:
        """Close the epoch: record it, ask the policy, freeze and store if it says so.

        Args:
            metrics: what the policy and the records should see, such as {"val_loss": ...}.
        """
        seconds = self._clock.epoch_seconds
        # Losses are often tensors, and accuracies numpy's: records are JSON.
        known = {name: number.item() if hasattr(number, "item") else number for name, number in (metrics or {}).items()}
        self._record(
            {
                "event": "epoch",
                "epoch": self._epoch,
                "depth": self.depth,
                "cut": self.cut.label if self.cut else None,
                "source": self.source,
                "seconds": seconds,
                "images_per_second": len(self._samples) / seconds if seconds else None,
                "cache_bytes": self._feeder.nbytes,
                "saved_seconds": self._clock.saved_seconds(),
                "watch_seconds": self._observer.seconds,
                **known,
            }
        )
        self._metrics.append(known)
        self._epoch, self._midway = self._epoch + 1, False
        if self.epochs is None or self._epoch < self.epochs:
            self._ask(self._epoch)
            self._settle(self._epoch)
        self._front.end_epoch()

    def evaluation(
        self,
        dataset: Dataset[Any],
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
        rungs = Ladder.of(codec)
        if len(rungs) != 1:
            raise ArgumentError(f"evaluation stores with one codec, not with a ladder of {len(rungs)}: {codec!r}")
        made = Evaluation(
            dataset,
            transform,
            batch_size=batch_size,
            codec=rungs[0],
            workers=self._samples.workers,
            device=self.device,
            channels_last=self.channels_last,
            directory=None if self._mode == "recompute" else self._cache_dir / "evaluation",
            division=lambda: self._division,
            room=self._evaluation_room,
        )
        self._evaluations.append(made)
        return made

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
        return "images" if not self.depth else "cache" if self.cache is not None else "recompute"

    @property
    def training_seconds(self) -> float:
        """Wall seconds of all epochs, calibrations and builds so far; evaluation is the loop's own."""
        return self._clock.total_seconds

    @property
    def batches_per_epoch(self) -> int:
        """How many batches `batches` gives."""
        return len(batch_bounds(len(self._samples), self.batch_size))

    def step_flops(self) -> int:
        """FLOPs of one training step as it runs now, per sample: forward and backward of what still trains,
        and the forward of the prefix where it is recomputed."""
        few = self._example[:2]
        if self._division is None:
            return training_flops(self.model, few, len(few))
        with torch.no_grad():
            features = self._division.prefix(few)
        recomputed = self._division.cut.prefix_flops if self.cache is None else 0
        return training_flops(self._division.suffix, features, len(few)) + recomputed

    def describe(self) -> list[str]:
        """What Hoarfrost will do with each step of the transform, one line a step, and with each batch."""
        mixed = [] if self._mixing is None else [f"each batch: {self._mixing.describe()}"]
        return [*self._samples.pipeline.describe(), *mixed]

    def state_dict(self) -> dict[str, Any]:
        """Depth, cut, policy state, epoch and history; enough to go on from `load_state_dict`.

        JSON, but for what the policy remembers: that may be tensors.
        """
        remembered = getattr(self.policy, "state_dict", None)
        return {
            "version": STATE_VERSION,
            "depth": self.depth,
            "policy_depth": self._policy_depth,
            "cut": self.cut.label if self.cut else None,
            "event": self._division.event if self._division else None,
            "epoch": self._epoch,
            "asked": list(self._asked),
            "midway": self._midway,
            "rung": self._feeder.rung,
            "ways": {event: asdict(way) for event, way in self._feeder.ways.items()},
            "seed": self.seed,
            "samples": len(self._samples),
            "fingerprints": [cache.fingerprint.digest for cache in self._feeder.caches],
            "metrics": [dict(metrics) for metrics in self._metrics],
            "history": list(self.history),
            "clock": self._clock.state_dict(),
            "policy": remembered() if remembered is not None else None,
            "observer": self._observer.state_dict(),
            "front": self._front.state_dict(),
            "wall": self._workbench.wall(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`. Order: model weights first, then this (it freezes), then the optimizer's state.

        The cache is opened again where its fingerprint fits, and built again where it is gone.

        Raises:
            CheckpointError: the state belongs to another model, data set or seed, or is none.
        """
        if state.get("version") != STATE_VERSION:
            raise CheckpointError(
                f"a freezer's state of version {STATE_VERSION} is needed, this one has {state.get('version')!r}"
            )
        for field, mine in (("seed", self.seed), ("samples", len(self._samples))):
            if state[field] != mine:
                raise CheckpointError(f"the checkpoint was made with {field} {state[field]}, this run has {mine}")
        depth = int(state["depth"])
        label = self.cuts[depth - 1].label if 0 < depth <= len(self.cuts) else None
        if depth and label != state["cut"]:
            raise CheckpointError(
                f"the checkpoint is frozen up to cut {state['cut']!r} (depth {depth}), where this model has {label!r}"
            )
        if depth < self.depth and may_thaw(self.policy):
            self._thaw()
        if depth < self.depth:
            raise CheckpointError(f"the checkpoint has depth {depth}, but depth {self.depth} is frozen already")
        if depth and (depth > self.depth or self._division is None or self._division.event != state["event"]):
            self._front.freeze(depth, int(state["event"]), None)
            self._feeder.reset()
        self._feeder.rung = int(state["rung"])
        self._feeder.ways = {int(event): Way(**way) for event, way in state.get("ways", {}).items()}
        self._epoch, self._midway = int(state["epoch"]), bool(state.get("midway", False))
        epoch, step = state.get("asked", (self._epoch, 0))
        self._asked = int(epoch), int(step)
        self._policy_depth = int(state.get("policy_depth", depth))
        self._metrics = list(state["metrics"])
        self.history = [dict(record) for record in state["history"]]
        self._clock.load_state_dict(state["clock"])
        if state["policy"] is not None:
            self.policy.load_state_dict(state["policy"])  # type: ignore[attr-defined]
        if "observer" in state:
            self._observer.load_state_dict(state["observer"])
        self._workbench.before = float(state.get("wall", 0.0))
        if "front" in state:
            self._front.load_state_dict(state["front"])
        if self._division is not None and state["fingerprints"]:
            self._feeder.reopen(self._division, state["fingerprints"])

    def close(self) -> None:
        """Give the data set its transform back; remove the temporary cache. The model stays frozen as it is."""
        self._closed = True
        for evaluation in self._evaluations:
            evaluation.close()
        self._samples.close()
        self._remove_cache()
        self._stop_watching()

    def __enter__(self) -> Freezer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ freezing

    @property
    def _division(self) -> Division | None:
        return self._front.division

    def _directory(self, cache_dir: str | Path | None) -> Path:
        """Where caches go; a temporary directory goes with the freezer, also where nobody calls `close`."""
        if cache_dir is not None:
            return prepare_directory(Path(cache_dir))
        temporary = Path(tempfile.mkdtemp(prefix="hoarfrost-"))
        self._remove_cache = weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
        return temporary

    def _evaluation_room(self) -> int | None:
        """Bytes that the disk budget has left for one more evaluation's features."""
        left = self._feeder.room
        return None if left is None else max(0, left - sum(made.nbytes for made in self._evaluations))

    def _asking(self, epoch: int, start: int) -> Batches:
        """The epoch's batches. Where the policy changes the depth on the way, the others come as it is then."""
        batches = self._from(epoch, start)
        for step in range(start, self.batches_per_epoch):
            if self._every_steps and step and (epoch * self.batches_per_epoch + step) % self._every_steps == 0:
                depth = self.depth
                self._ask(epoch, step, leave=batches.close)
                if self.depth != depth:
                    batches = self._from(epoch, step)
            yield next(batches)

    def _from(self, epoch: int, start: int) -> Batches:
        """Batches of an epoch from one on; the order is the same whatever they are made of."""
        if self._division is None:
            batches = self._live_batches(epoch, start)
        elif self._midway:
            batches = self._recomputed(self._division, epoch, start)
        else:
            batches = self._feeder.batches(epoch, start)
        return batches if self._mixing is None else self._mixed(self._mixing, batches, epoch, start)

    def _ask(self, epoch: int, step: int = 0, leave: Callable[[], object] = lambda: None) -> None:
        """Ask the policy once for each epoch, or so many steps, and freeze what it names.

        Args:
            leave: what is being read, so that it can be removed.
        """
        if (epoch, step) <= self._asked:
            return
        self._asked = epoch, step
        # Where the disk budget asked for more than the policy did, the policy may well stay behind.
        state, before = self._state(epoch, step), self.depth
        depth = checked_depth(self.policy, state, self._policy_depth)
        self._observer.asked(epoch, step)
        if why := getattr(self.policy, "why", ""):
            self._record({"event": "decision", **self._change(epoch, step), "depth": depth, "why": why})
        if depth < self._policy_depth:
            leave()
            self._record({"event": "thaw", **self._change(epoch, step), "before": before, "depth": depth})
            self._thaw()
        self._policy_depth = depth
        if depth > self.depth:
            with self._clock.building():
                self._freeze(depth, epoch + (step > 0))
        if step and self.depth != before:
            self._midway = True
            if self._division is not None:
                self._feeder.forget()
                self._record({"event": "midway", **self._change(epoch, step), "depth": self.depth})

    def _change(self, epoch: int, step: int) -> dict[str, Any]:
        """Where a depth changes, and who wants it."""
        label = self.cut.label if self.cut else None
        return {"epoch": epoch, "step": step, "cut": label, "policy": describe(self.policy)}

    def _state(self, epoch: int, step: int = 0) -> TrainState:
        metrics, thaws = tuple(self._metrics), may_thaw(self.policy)
        return TrainState(
            epoch, self.epochs, self.depth, self.cuts, metrics, thaws, self._observer, step, self._workbench
        )

    def _freeze(self, depth: int, event: int) -> Division:
        """The surgery. What feeds the suffix follows in `_settle`."""
        images = (images for images, _ in self._live_batches(event, 0))
        division = self._front.freeze(depth, event, images)
        self._feeder.reset()
        return division

    def _thaw(self) -> None:
        """Everything trains again, on images; what was stored is removed."""
        self._front.thaw()
        self._feeder.drop()

    def _settle(self, epoch: int) -> None:
        """See to it that the features of the current depth can be had: stored, or computed."""
        if self._division is None or self._feeder.ready:
            return
        for evaluation in self._evaluations:
            evaluation.drop()  # the disk budget is for the features that are trained on first
        change = announced_change(self.policy, self._state(epoch))
        until = change if change is not None else self.epochs
        with self._clock.building():
            self._feeder.settle(
                self._division,
                None if until is None else until - epoch,
                describe(self.policy),
                later=self.cuts[self.depth :],
                deepen=lambda cut: self._freeze(self.cuts.index(cut) + 1, epoch),
            )

    def _live_batches(self, epoch: int, start: int) -> Batches:
        ids = self._feeder.order.shuffled(epoch)
        groups = [ids[begin:end] for begin, end in batch_bounds(len(ids), self.batch_size)][start:]
        for images, targets in self._samples.stream(groups, self._feeder.renditions.live(epoch)):
            yield self._placed(images), targets.to(self.device)

    def _recomputed(self, division: Division, epoch: int, start: int) -> Batches:
        for images, targets in self._live_batches(epoch, start):
            with torch.no_grad():
                features = division.prefix(images)
            yield features, targets

    def _mixed(self, mixing: Mixing, batches: Iterator[tuple[Any, Tensor]], epoch: int, start: int) -> Batches:
        """The same batches mixed: images as images, features on their grid."""
        cut = self.cut
        grid = None if cut is None else grid_of(cut, (self._example.shape[-2], self._example.shape[-1]))
        for step, (inputs, targets) in enumerate(batches, start):
            mix = mixing.draw(self.seed, epoch, step)
            mixed, share = mixing.on_images(inputs, mix) if cut is None else mixing.on_features(inputs, mix, grid)
            yield mixed, mixing.on_targets(targets, share)

    def _placed(self, images: Tensor) -> Tensor:
        images = images.to(self.device)
        if self.channels_last and images.dim() == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return images

    def _render_example(self) -> Tensor:
        """A few images as the model will get them, [B, ...]: enough for batch statistics, few enough to be quick."""
        ids = torch.arange(min(EXAMPLES, len(self._samples), max(2, self.batch_size)))
        draw = self._samples.pipeline.draw(len(self._samples), self.seed)
        return self._placed(self._samples.images(ids, draw)[0])

    def _probe(self) -> Tensor:
        """Images [N, ...] for policies that look at features: from all over the data, changed as little as can be."""
        ids = torch.linspace(0, len(self._samples) - 1, min(PROBE, len(self._samples))).long()
        return self._placed(self._samples.images(ids, self._samples.pipeline.still(len(self._samples)))[0])

    def _record(self, record: dict[str, Any]) -> None:
        self.history.append(record)
        if self.listener is not None:
            self.listener(record)


def storable(cuts: Sequence[Cut]) -> tuple[Cut, ...]:
    """The cuts of which all that crosses can be stored: tensors with one entry or more for each sample."""
    return tuple(cut for cut in cuts if all(crossing.shape for crossing in cut.tensors))


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter is."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
