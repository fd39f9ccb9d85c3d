from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from hoarfrost.samples.dataset import Samples
from hoarfrost.samples.renditions import Renditions
from shared.images import PLAIN, RANDOM, images
from shared.small_cache import N


def test_renditions_are_functions_of_seed_and_purpose() -> None:
    samples = Samples(images(N, RANDOM))
    one, other = Renditions(samples, 0), Renditions(samples, 0)
    other.live(5)
    assert one.live(2).seed == other.live(2).seed
    assert one.view(2, 0).seed == other.view(2, 0).seed


def test_every_purpose_has_a_draw_of_its_own() -> None:
    renditions = Renditions(Samples(images(N, RANDOM)), 0)
    draws = [
        renditions.live(1),
        renditions.live(2),
        renditions.view(1, 0),
        renditions.view(1, 1),
        renditions.view(2, 0),
    ]
    assert len({draw.seed for draw in draws}) == 5


def test_another_seed_draws_otherwise() -> None:
    samples = Samples(images(N, RANDOM))
    assert Renditions(samples, 0).live(0).seed != Renditions(samples, 1).live(0).seed


def test_a_clean_base_is_still_and_further_views_are_not() -> None:
    samples = Samples(images(N, RANDOM))
    renditions = Renditions(samples, 0)
    ids = torch.arange(N)
    plain = images(N, PLAIN)
    clean = samples.images(ids, renditions.view(0, 0, base="clean"))[0]
    assert torch.equal(clean, torch.stack([plain[i][0] for i in range(N)]))
    moved = samples.pipeline.placement(renditions.view(0, 1, base="clean"), ids, (28, 28))
    assert bool((moved.sign == -1).any())


def test_many_threads_get_the_draw_that_they_ask_for() -> None:
    samples = Samples(images(N, RANDOM))
    renditions, wanted = Renditions(samples, 0), [Renditions(samples, 0).live(epoch).seed for epoch in range(4)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: renditions.live(i % 4).seed, range(400)))
    assert found == [wanted[i % 4] for i in range(400)]


def test_editions_are_different_renditions() -> None:
    renditions = Renditions(Samples(images(N, RANDOM)), 0)
    draws = [renditions.view(3, view, edition) for edition in range(4) for view in range(2)]
    assert len({draw.seed for draw in draws}) == 8


def test_draws_that_no_epoch_needs_any_more_are_let_go() -> None:
    renditions = Renditions(Samples(images(N, RANDOM)), 0)
    for edition in range(20):
        for view in range(3):
            renditions.view(3, view, edition)
        renditions.live(edition)
    assert len(renditions._held) == 3 * 2 + 1
    renditions.view(9, 0)
    assert len(renditions._held) == 2
