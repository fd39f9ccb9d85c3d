"""An epoch's batches, as a training wants them now: images at first, features behind a freeze."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..augment import Mixing
from ..cache import Cache
from ..codecs import Codec, Ladder
from ..costs import training_flops
from ..cuts import Cut, Example, called, count_of, first_tensor, hooks_apart, stage_of, taken
from ..errors import ArgumentError, StaleCacheError
from ..freezing import Division, Front, undistributed
from ..samples import TrainingData, grid_of
from ..settings import Noise, Settings
from ..storing import Decided, Held, Storer
from .evaluation import Evaluation
from .feature_noise import FeatureNoise
from .reading import Reading, SharedReadings, order_key, read
from .rewritten import Rewritten
from .sources import Sources, sources_of
from .window import filled

__all__ = ["Batches", "Feeder"]

Batches = Generator[Any, None, None]


class Feeder:
    """Feeds what still trains: images while nothing is frozen, else features from the cache or from the prefix.

    Args:
        front: of the model; says where it is divided.
        directory: where features are stored.
        mixing: of each batch; None: none.
        say: called with each record (`freeze`, `heal`).
    """

    def __init__(
        self,
        data: TrainingData,
        front: Front,
        settings: Settings,
        directory: Path,
        mixing: Mixing | None,
        say: Callable[[dict[str, Any]], None],
    ) -> None:
        if mixing is not None and not data.samples.form.pair:
            raise ArgumentError("mix needs items (input, target), the target a number: mix the batches in your loop")
        self._data, self._front, self._mixing, self._say = data, front, mixing, say
        self.deciding = settings.deciding
        self._views, self._memory_budget = settings.storing.views, settings.reading.memory_budget
        self._noise = settings.reading.noise
        self._storer = Storer(directory, data, settings.storing, say)
        self._directory, self._mode, self._stale = directory, settings.storing.mode, settings.storing.stale
        data.samples.unreadable.tell(say)
        self._evaluations: list[Evaluation] = []
        self._sources: Sources = ()
        self._rewritten = Rewritten(data.samples)
        self.midway = False
        """Whether the depth has changed within the epoch: the rest of it is rendered, and what is frozen runs on it."""
        self.shared: SharedReadings | None = None
        """With the feeders of other trainings, which read when this one does; None: it reads alone."""

    @property
    def caches(self) -> tuple[Cache, ...]:
        """One for each tensor that crosses the cut; none when recomputing."""
        return self._storer.storage.caches

    @property
    def cache(self) -> Cache | None:
        """The stored features, or None; what else crosses the cut is stored beside them."""
        return self.caches[0] if self.caches else None

    @property
    def nbytes(self) -> int:
        """Bytes on disk of all that crosses."""
        return self._storer.storage.nbytes

    def unlike(self) -> str:
        """How samples are not as they were when the cache was built, where it is to be built again for that; "" if they
        are, as far as that is known by now.

        Raises:
            StaleCacheError: they are not, and that is to be an error.
        """
        check = self._storer.storage.check
        told = ("" if check is None else check.taken()) or self._rewritten.told(self.cache)
        if told and self._stale == "error":
            raise StaleCacheError(f"{told}: the stored features were made from something else")
        if told and self._stale == "reuse":
            warnings.warn(f"hoarfrost reuses stale features, as asked: {told}", stacklevel=2)
        elif told:
            self._storer.storage.distrust()
        return "" if self._stale == "reuse" else told

    def end_check(self) -> None:
        """The epoch in which samples were looked at is over."""
        check = self._storer.storage.check
        if check is not None and check.end():
            self._say({"event": "checked", "samples": check.read, "of": len(self._data.samples)})

    @property
    def by_chunks(self) -> bool:
        """Whether an epoch's samples come chunk by chunk, as features do, and not in the order of images."""
        return self._front.division is not None and not self.midway

    @property
    def ready(self) -> bool:
        """Whether features can be had: a cache that has vanished from the disk has to be built again."""
        return bool(self._sources) and not self._storer.storage.vanished

    def reset(self) -> None:
        """The division has changed: what was read so far is no longer what the suffix needs."""
        self._sources = ()

    def forget(self) -> None:
        """The division has changed within an epoch: no further cache is built from these features."""
        self.reset()
        self._storer.forget()

    def drop(self) -> None:
        """Everything trains again: remove what was stored, and forget what was chosen for it."""
        self.reset()
        self._storer.drop()

    @property
    def decided(self) -> bool:
        """Whether it is known how the features of the division are had."""
        return self._decided is not None

    @property
    def stores(self) -> bool:
        """Whether they are read from the disk, or will be once they are stored."""
        return self._decided is not None and self._decided.choice == "cache"

    @property
    def _decided(self) -> Decided | None:
        decided, division = self._storer.decided, self._front.division
        return decided if decided is not None and division is not None and decided.fits(division) else None

    def decide(
        self,
        epochs_left: int | None,
        policy: str,
        *,
        later: Sequence[Cut],
        deepen: Callable[[Cut], Division],
    ) -> None:
        """Measure and choose how the features of the division are had: see `Storer.decide`."""
        if self._front.division is None:
            raise RuntimeError("Feeder.decide before a freeze")
        self._storer.decide(self._front.division, epochs_left, policy, later=later, deepen=deepen)

    def take(self, decided: Mapping[str, Any]) -> None:
        """What another rank has decided, as `told` gives it: see `Storer.take`."""
        self._storer.take(Decided.from_config(decided))

    def told(self) -> dict[str, Any]:
        """What was decided, as JSON takes it."""
        return {} if self._decided is None else self._decided.to_config()

    def distrust(self) -> None:
        """Samples are not as they were when the cache was built, as another rank has seen."""
        self._storer.storage.distrust()

    def settle(self) -> None:
        """See to it that the features of the division can be had: see `Storer.store`."""
        if self._front.division is None:
            raise RuntimeError("Feeder.settle before a freeze")
        for evaluation in self._evaluations:
            evaluation.drop()  # the disk budget is for the features that are trained on first
        self._use(self._storer.store(self._front.division))

    def tidy(self, *, over: bool = False) -> None:
        """Remove what was stored of shallower cuts, and is needed by no saved state any more.

        Args:
            over: the training is: no state goes on with them.
        """
        if over:
            self._storer.storage.keep(self.caches)
        self._storer.storage.drop_previous()

    def batches(self, epoch: int, start: int = 0) -> Batches:
        """An epoch's batches from one on, on the device, laid out as the user's own; the order is always the same.

        In the place of the input stand features [B, ...] behind a freeze, or tuples of all that crosses the cut. None
        stands for a batch of which no sample is left.
        """
        self._data.samples.refresh()
        batches = self._unmixed(epoch, start)
        return batches if self._mixing is None else self._mixed(self._mixing, batches, epoch, start)

    def evaluation(
        self,
        model: nn.Module,
        dataset: Dataset[Any] | DataLoader[Any],
        transform: Callable[[Any], Any] | None,
        batch_size: int,
        codec: int | str | Codec,
    ) -> Evaluation:
        """Batches of other data as the model takes them now; what they store takes what the disk budget has left."""
        if isinstance(dataset, DataLoader):
            batch_size, dataset = dataset.batch_size or batch_size, dataset.dataset
        rungs = Ladder.of(codec)
        if len(rungs) != 1:
            raise ArgumentError(f"evaluation stores with one codec, not with a ladder of {len(rungs)}: {codec!r}")
        model = undistributed(model)
        made = Evaluation(
            dataset,
            transform,
            batch_size=batch_size,
            codec=rungs[0],
            workers=self._data.samples.workers,
            model=model,
            told=self._data.samples.told,
            collate=self._data.samples.own_collate,
            on_bad_sample=self._data.samples.unreadable.then,
            on_device=self._data.on_device,
            directory=None if self._mode == "recompute" else self._directory / self._data.ranks.own("evaluation"),
            division=lambda: self._front.division,
            room=self._evaluation_room,
            faults=self._storer.faults,
        )
        self._evaluations.append(made)
        return made

    def describe(self) -> list[str]:
        """Which ranks store together, and what is done with each batch, one line each."""
        mixed = [] if self._mixing is None else [f"each batch: {self._mixing.describe()}"]
        return [*self._storer.storage.sharing, *mixed]

    def close(self) -> None:
        """Remove what evaluations store, give data sets their transforms back, and let others remove what was read."""
        self._storer.storage.release()
        for evaluation in self._evaluations:
            evaluation.close()

    def step_flops(self, model: nn.Module) -> int:
        """FLOPs of one training step as it runs now, per sample, the prefix's forward included where it is run."""
        model, calls = undistributed(model), [(first_tensor(inputs).shape, inputs) for inputs in self._data.examples]
        with self._front.precision.now.autocast():
            flops = {shape: self._call_flops(model, taken(inputs, 2)) for shape, inputs in dict(calls).items()}
        return sum(flops[shape] for shape, _ in calls)

    def _call_flops(self, model: nn.Module, few: Example) -> int:
        """Of one call of the model in such a step."""
        count, division = count_of(few), self._front.division
        if division is None:
            with hooks_apart(model):
                return training_flops(model, few, count, called)
        with torch.no_grad(), division.prefix.hooks_apart():
            features = called(division.prefix, few)
        suffix = division.suffix_of(division.cut.rows_of(features)) or division.suffix
        recomputed = 0 if self.stores else suffix.cut.prefix_flops
        return training_flops(suffix.shadow(), features, count) + recomputed

    def state_dict(self) -> dict[str, Any]:
        return {"midway": self.midway, **self._storer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], earlier: Division | None = None) -> None:
        """Go on with what an earlier process chose and stored.

        Args:
            earlier: the shallower division whose features are to be built from.
        """
        self.midway = bool(state["midway"])
        self._storer.load_state_dict(state, earlier)
        if state["fingerprints"] and state["earlier"] is None:
            self.reopen(state["fingerprints"])

    def reopen(self, digests: Sequence[str]) -> bool:
        """Go on with the caches of an earlier process; False if one is gone or was made from something else."""
        division = self._front.division
        held = None if division is None else self._storer.reopen(division, digests)
        if held is not None:
            self._use(held)
        return held is not None

    def _evaluation_room(self) -> int | None:
        """Bytes of the disk budget for one more evaluation's features; None: there is no budget."""
        left = self._storer.storage.left
        if left is None:
            return None
        grows = self._views.refresh_every is not None or self._views.record == "shown"
        return 0 if grows else max(0, left - sum(made.nbytes for made in self._evaluations))

    def _unmixed(self, epoch: int, start: int) -> Batches:
        division = self._front.division
        if division is None:
            yield from self._data.live(epoch, start)
        elif self.midway:
            form = self._data.samples.form
            for batch in self._data.live(epoch, start):
                if batch is None:
                    yield None
                    continue
                with torch.no_grad():
                    rows = [division.cut.rows_of(called(division.prefix, inputs)) for inputs in form.calls(batch)]
                features = [tensors if len(tensors) > 1 else tensors[0] for tensors in rows]
                yield form.with_features(batch, features, division.cut.rows)
        else:
            yield from self._features(division, epoch, start)

    def _features(self, division: Division, epoch: int, start: int) -> Batches:
        if not self._sources:
            raise RuntimeError("Feeder.batches before Feeder.settle")
        crossing = len(division.cut.rows)
        check = self._storer.storage.check
        if check is not None:
            check.begin()
        with closing(self._read(epoch, start)) as reading:
            for step, batches in enumerate(reading, start):
                stays = self._data.samples.unreadable.left(batches[0].sample_ids)
                if stays is not None:
                    if not stays.any():
                        yield None
                        continue
                    batches = tuple(batch.without(~stays) for batch in batches)
                features = list(map(filled, batches, division.cut.rows * (len(batches) // crossing)))
                self._disturb(division, features, epoch, step)
                by_call = [tuple(features[n : n + crossing]) for n in range(0, len(features), crossing)]
                given = [tensors if crossing > 1 else tensors[0] for tensors in by_call]
                first = batches[0]
                yield self._data.with_features(given, first.targets, first.sample_ids, division.cut.rows)

    def _disturb(self, division: Division, features: list[Any], epoch: int, step: int) -> None:
        """Put noise on the features of each call, as that is asked for; what else crosses stays as it is."""
        if self._noise == Noise():
            return
        stage = stage_of(self._front.cuts, division.cut)
        noise = FeatureNoise(self._noise, division.cut, stage, self._data.order.seed_of_rank)
        crossing = len(division.cut.rows)
        for number in range(0, len(features), crossing):
            if isinstance(features[number], Tensor):
                features[number] = noise.on(features[number], epoch, step, number // crossing)

    def _read(self, epoch: int, start: int) -> Reading:
        if self.shared is None or not self.caches:
            return read(self._sources, self._data, epoch, start)
        order = order_key(self._data.order, self._data.bounds(epoch), epoch)
        key = (*(cache.fingerprint.digest for cache in self.caches), order, start, self._data.on_device)
        return self.shared.take(key, lambda: read(self._sources, self._data, epoch, start))

    def _mixed(self, mixing: Mixing, batches: Iterator[tuple[Any, Tensor] | None], epoch: int, start: int) -> Batches:
        """The same batches mixed: images as images, features on their grid."""
        cut, example = self._front.cut, first_tensor(self._data.example)
        grid = None if cut is None else grid_of(cut, (example.shape[-2], example.shape[-1]))
        for step, batch in enumerate(batches, start):
            if batch is None:
                yield None
                continue
            inputs, targets = batch
            mix = mixing.draw(self._data.order.seed_of_rank, epoch, step)
            mixed, share = mixing.on_images(inputs, mix) if cut is None else mixing.on_features(inputs, mix, grid)
            yield mixed, mixing.on_targets(targets, share)

    def _use(self, held: Held) -> None:
        """Read what is stored, or compute it where nothing is."""
        self._rewritten.look()
        self._sources = sources_of(held, self._storer.storage, self._data, self._memory_budget, self._say)
