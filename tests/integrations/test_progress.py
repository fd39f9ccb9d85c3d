"""Where a training goes on, counted in the steps of as many processes as there are now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SubsetRandomSampler

from hoarfrost.integrations.progress import Progress
from hoarfrost.samples import Part, UserLoader

progresses = st.integers(1, 40).flatmap(
    lambda steps: st.builds(Progress, st.integers(0, 9), st.integers(0, steps), st.just(steps), st.integers(1, 7))
)


def loader_of(samples: int, size: int, **options: Any) -> UserLoader:
    return UserLoader.of(DataLoader(list(range(samples)), size, **options), None, None, 0)  # type: ignore[arg-type]


def state(epoch: int, *parts: Part) -> dict[str, Any]:
    given = sum(part.batches for part in parts)
    return {"epoch": epoch, "given": given, "parts": [part.to_config() for part in parts]}


@given(progresses)
def test_an_epoch_ends_with_its_last_update(progress: Progress) -> None:
    """Whole updates are left out, and what is left makes the others."""
    coming = -(-progress.left // progress.accumulated)
    assert progress.skipped % progress.accumulated == 0
    assert progress.skipped // progress.accumulated + coming == progress.updates
    assert progress.done + coming == progress.updates * (progress.epoch + 1)


@given(progresses, st.integers(0, 200), st.integers(1, 200))
def test_so_many_updates_take_so_many_epochs(progress: Progress, made: int, more: int) -> None:
    """Counted one by one."""
    updates, epoch, left = made, progress.epoch, -(-progress.left // progress.accumulated)
    while updates < made + more:
        if not left:
            epoch, left = epoch + 1, progress.updates
        updates, left = updates + 1, left - 1
    assert progress.epochs(made + more, made) == epoch + 1


def test_a_training_that_begins() -> None:
    progress = Progress.of(None, loader_of(59, 8), 1, 3)
    assert (progress.epoch, progress.left, progress.steps, progress.updates) == (0, 8, 8, 3)
    assert (progress.done, progress.skipped, progress.epochs(7, 0)) == (0, 0, 3)


@pytest.mark.parametrize(("ranks", "size", "left", "steps"), [(1, 8, 6, 8), (2, 8, 3, 4), (4, 8, 2, 2), (1, 16, 3, 4)])
def test_what_others_began_is_counted_in_batches_of_now(ranks: int, size: int, left: int, steps: int) -> None:
    """Two ranks have shown 16 samples of 59."""
    known = state(3, Part(2, 8, drop_last=False, batches=1, by_chunks=True))
    progress = Progress.of(known, loader_of(59, size, shuffle=True), ranks)
    assert (progress.epoch, progress.left, progress.steps) == (3, left, steps)


def test_a_sampler_shows_as_many_as_it_draws() -> None:
    drawing = loader_of(59, 8, sampler=SubsetRandomSampler(range(30)))
    shown = Part(1, 4, drop_last=False, batches=2, by_chunks=False, drawn="")
    assert Progress.of(state(0, shown), drawing, 1).left == 3
    assert Progress.of({"epoch": 0, "given": 3, "parts": []}, drawing, 1).left == 1


class Made(BatchSampler):
    """One that is not torch's own, so that its batches stay as they are."""

    def __iter__(self) -> Iterator[list[int]]:
        yield from super().__iter__()


@pytest.mark.parametrize("size", [8, 4])
def test_a_sampler_that_makes_the_batches_goes_on_with_them(size: int) -> None:
    sampler = Made(RandomSampler(range(26)), size, False)
    loader = UserLoader.of(DataLoader(list(range(26)), batch_sampler=sampler), None, None, 0)  # type: ignore[arg-type]
    shown = Part(1, 8, drop_last=False, batches=2, by_chunks=True)
    progress = Progress.of(state(1, shown), loader, 1)
    assert (progress.steps, progress.left) == (-(-26 // size), -(-26 // size) - 2)
    whole = Part(1, 8, drop_last=False, batches=4, by_chunks=True).with_samples(torch.ones(26, dtype=torch.bool))
    assert Progress.of(state(1, whole), loader, 1).left == 0
