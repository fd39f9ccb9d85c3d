"""A loop on Accelerate with a freezer in its loader's place: its own bits, on features and images, across a resume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hoarfrost.errors import ArgumentError, CheckpointError
from hoarfrost.integrations.accelerate import FreezingLoader
from hoarfrost.samples import batch_bounds
from shared.distributed_runs import Numbered
from shared.images import PLAIN, images
from shared.nets import in_place, resnet
from shared.runs import sgd

accelerate = pytest.importorskip("accelerate")

N, BATCH, EPOCHS = 58, 8, 3
STEPS = 8  # of 8 samples, the last of 2
POLICY = {1: "features.4", 2: "features.8"}


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Accelerate's states are the process's."""
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def told(mode: str = "cache", policy: Any = None) -> dict[str, Any]:
    chosen = POLICY if policy is None else policy
    return {"policy": chosen, "mode": mode, "ladder": "exact", "views": 1, "verbose": False, "epochs": EPOCHS}


class Loop:
    """A user's loop: three epochs, gradients of so many batches a step."""

    def __init__(self, mixed: str = "no", accumulated: int = 1, make: Any = in_place, **keywords: Any) -> None:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        accelerate.state.GradientState._reset_state()
        self.accelerator = accelerate.Accelerator(
            cpu=True, mixed_precision=mixed, gradient_accumulation_steps=accumulated
        )
        model = make()
        self.model, self.optimizer = self.accelerator.prepare(model, sgd(model))
        self.keywords = keywords
        self.losses: list[float] = []
        self.steps = 0
        self.data, self.size = images(N, PLAIN), BATCH
        self.shown: list[list[int]] = []
        """The targets of each epoch."""
        self.seeded = False
        """Whether each step has random decisions of its own, whatever a loader has drawn before."""

    def loader(self) -> FreezingLoader:
        data = DataLoader(self.data, self.size, shuffle=True)
        return FreezingLoader(self.accelerator, self.model, self.optimizer, data, **self.keywords)

    def epoch(self, loader: Any, save: dict[int, Path] | None = None, start: int = 0) -> None:
        self.model.train()
        self.shown.append([])
        for step, (inputs, targets) in enumerate(loader, start + 1):
            self.shown[-1] += targets.tolist()
            if self.seeded:
                torch.manual_seed(len(self.losses))
            with self.accelerator.accumulate(self.model):
                loss = F.cross_entropy(self.model(inputs), targets % 10)
                self.accelerator.backward(loss)
                self.optimizer.step()
                self.optimizer.zero_grad()
            self.losses.append(loss.item())
            self.steps += self.accelerator.sync_gradients
            if save and step in save:
                self.accelerator.save_state(str(save[step]))

    def weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


def run(seeded: bool = False, **options: Any) -> tuple[Loop, FreezingLoader]:
    loop = Loop(**options)
    loop.seeded = seeded
    loader = loop.loader()
    torch.manual_seed(3)
    for _ in range(EPOCHS):
        loop.epoch(loader)
    loader.close()
    return loop, loader


def same(one: Loop, other: Loop) -> bool:
    weights = zip(one.weights().values(), other.weights().values(), strict=True)
    return one.losses == other.losses and all(torch.equal(a, b) for a, b in weights)


@pytest.mark.parametrize(("mixed", "accumulated"), [("no", 1), ("no", 3), ("bf16", 3)])
def test_where_nothing_freezes_it_is_the_loop_to_the_bit(mixed: str, accumulated: int) -> None:
    loop, _ = run(True, mixed=mixed, accumulated=accumulated, **told(policy="none"))
    fed = Loop(**told(policy="none")).loader()
    shown = [[(inputs.clone(), targets) for inputs, targets in fed] for _ in range(EPOCHS)]
    fed.close()
    plain = Loop(mixed, accumulated)
    plain.seeded = True
    for batches in shown:
        # As a data set of whole batches, so that a loader of Accelerate's own says where the epoch ends.
        plain.epoch(plain.accelerator.prepare(DataLoader(batches, collate_fn=lambda batch: batch[0])))
    assert same(loop, plain)
    assert loop.steps == plain.steps == EPOCHS * -(-STEPS // accumulated)


@pytest.mark.parametrize(("mixed", "accumulated"), [("no", 1), ("bf16", 3)])
def test_a_cached_run_is_one_that_recomputes(mixed: str, accumulated: int) -> None:
    cached, loader = run(mixed=mixed, accumulated=accumulated, **told())
    recomputed, _ = run(mixed=mixed, accumulated=accumulated, **told("recompute"))
    assert same(cached, recomputed)
    epochs = [record for record in loader.freezer.history if record["event"] == "epoch"]
    assert [record["source"] for record in epochs] == ["images", "cache", "cache"]


@pytest.mark.parametrize("mixed", ["no", pytest.param("bf16", marks=pytest.mark.long)])
def test_a_loaded_state_goes_on_to_the_same_bits(mixed: str, tmp_path: Path) -> None:
    whole = Loop(mixed, 2, **told())
    loader = whole.loader()
    torch.manual_seed(3)
    for epoch in range(EPOCHS):
        whole.epoch(loader, {step: tmp_path / f"{epoch}-{step}" for step in (4, STEPS)})
    loader.close()
    for epoch, step in ((0, 4), (0, STEPS), (1, 4), (1, STEPS), (2, 4)):
        again = Loop(mixed, 2, **told())
        loader = again.loader()
        again.accelerator.load_state(str(tmp_path / f"{epoch}-{step}"))
        if step < STEPS:
            again.epoch(loader, start=step)
        for _ in range(epoch + 1, EPOCHS):
            again.epoch(loader)
        loader.close()
        assert again.losses == whole.losses[epoch * STEPS + step :]
        assert all(torch.equal(a, b) for a, b in zip(again.weights().values(), whole.weights().values(), strict=True))


@pytest.mark.parametrize(
    ("size", "accumulated"),
    [pytest.param(16, 1, marks=pytest.mark.slow), pytest.param(3, 2, marks=pytest.mark.long)],
)
def test_a_loaded_state_goes_on_with_other_batches_and_each_sample_comes_once(
    size: int, accumulated: int, tmp_path: Path
) -> None:
    """As more or fewer processes do; between epochs and within one, on images and on features, to recomputed bits."""
    losses: list[list[float]] = []
    for mode in ("cache", "recompute"):
        first = Loop(accumulated=2, **told(mode))
        first.data, first.seeded = Numbered(N), True
        loader = first.loader()
        for epoch in range(2):
            first.epoch(loader, {step: tmp_path / f"{mode}-{epoch}-{step}" for step in (2, STEPS)})
        loader.close()
        losses.append([])
        for epoch, step in ((0, 2), (0, STEPS), (1, 2)):
            again = Loop(accumulated=accumulated, **told(mode))
            again.data, again.size, again.seeded = Numbered(N), size, True
            loader = again.loader()
            again.accelerator.load_state(str(tmp_path / f"{mode}-{epoch}-{step}"))
            begin, coming = epoch + (step == STEPS), len(loader) - step % STEPS
            assert loader.freezer.loader.state_dict() == {"epoch": begin, "step": step % STEPS}
            seen: list[int] = []
            loader.freezer._data.samples.dataset = Watched(loader.freezer._data.samples.dataset, seen)
            again.epoch(loader, start=step % STEPS)
            assert begin or len(seen) == N - step * BATCH  # nothing is read for what was shown
            for _ in range(begin + 1, EPOCHS):
                again.epoch(loader)
            loader.close()
            losses[-1] += again.losses
            if step < STEPS:
                again.shown[0] += first.shown[epoch][: step * BATCH]
                assert coming == len(batch_bounds(N - step * BATCH, size))
            assert [sorted(shown) for shown in again.shown] == [list(range(N))] * (EPOCHS - begin)
            batches = coming, *[len(batch_bounds(N, size))] * (EPOCHS - begin - 1)
            assert again.steps == sum(-(-number // accumulated) for number in batches)
    assert losses[0] == losses[1]


def test_what_is_skipped_is_not_read(tmp_path: Path) -> None:
    whole = Loop(**told(policy="none"))
    loader = whole.loader()
    torch.manual_seed(3)
    whole.epoch(loader, {5: tmp_path})
    loader.close()
    again = Loop(**told(policy="none"))
    loader = again.loader()
    again.accelerator.load_state(str(tmp_path))
    seen: list[int] = []
    loader.freezer._data.samples.dataset = Watched(loader.freezer._data.samples.dataset, seen)
    again.epoch(again.accelerator.skip_first_batches(loader, 5))
    assert len(seen) <= N - 5 * BATCH
    again.accelerator.load_state(str(tmp_path))
    with pytest.raises(CheckpointError, match="stopped behind batch 5, and the loop goes on behind batch 4"):
        next(iter(again.accelerator.skip_first_batches(loader, 4)))


class Watched:
    """A data set whose reads are noted."""

    def __init__(self, dataset: Any, seen: list[int]) -> None:
        self._dataset, self._seen = dataset, seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        self._seen.append(index)
        return self._dataset[index]


def test_gathered_metrics_are_of_every_sample() -> None:
    loop = Loop(make=resnet, **told(policy={1: "layer1"}))
    loader = loop.loader()
    for _ in range(2):
        gathered = [loop.accelerator.gather_for_metrics(targets) for _, targets in loader]
        assert sum(map(len, gathered)) == N
        assert len(gathered[-1]) == N % BATCH
    assert loader.freezer.depth
    assert loop.accelerator.gradient_state.active_dataloader is None


def test_saved_weights_have_the_models_own_names(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    loop = Loop(make=resnet, **told(policy={0: "layer1"}))
    loader = loop.loader()
    loop.epoch(loader)
    loop.accelerator.save_state(str(tmp_path))
    assert set(load_file(tmp_path / "model.safetensors")) == set(resnet().state_dict())


def test_records_go_to_the_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(make=resnet, **told(policy={0: "layer1"}), log_records=True)
    logged: list[tuple[dict[str, float], Any]] = []
    monkeypatch.setattr(loop.accelerator, "log", lambda values, step=None: logged.append((values, step)))
    loop.epoch(loop.loader())
    assert any("freeze/depth" in values and values["freeze/depth"] > 0 for values, _ in logged)


def test_what_it_refuses() -> None:
    loop = Loop(**told(policy="none"))
    with pytest.raises(ArgumentError, match="not prepared"):
        FreezingLoader(loop.accelerator, in_place(), None, images(N, PLAIN), batch_size=8)
    with pytest.raises(ArgumentError, match=r"route=True has no place here"):
        FreezingLoader(loop.accelerator, loop.model, loop.optimizer, images(N, PLAIN), batch_size=8, route=True)
    with pytest.raises(ArgumentError, match="not InPlace"):
        FreezingLoader(loop.model, loop.model, loop.optimizer, images(N, PLAIN), batch_size=8)
    loader = loop.loader()
    with pytest.raises(ArgumentError, match="feeds this InPlace already"):
        loop.loader()
    loader.close()
    loop.loader().close()


def test_a_state_that_was_saved_without_it(tmp_path: Path) -> None:
    loop = Loop(**told(policy="none"))
    loop.accelerator.save_state(str(tmp_path))
    loop.loader()
    with pytest.raises(CheckpointError, match=r"holds no hoarfrost\.safetensors"):
        loop.accelerator.load_state(str(tmp_path))


def test_only_what_still_trains_runs() -> None:
    loop = Loop(make=resnet, **told(policy={0: "layer1"}))
    ran: list[str] = []
    model: nn.Module = loop.model
    model.get_submodule("layer1").register_forward_hook(lambda *_: ran.append("layer1"))
    model.get_submodule("layer3").register_forward_hook(lambda *_: ran.append("layer3"))
    loader = loop.loader()
    batches = iter(loader)
    inputs, _ = next(batches)
    ran.clear()
    model(inputs)
    assert ran == ["layer3"]
    with torch.no_grad():
        model.eval()
        model(torch.stack([image for image, _ in images(4, PLAIN)]))
    assert ran == ["layer3", "layer1", "layer3"]
