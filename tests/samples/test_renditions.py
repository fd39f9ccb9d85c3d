from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torchvision.transforms import v2

from hoarfrost import Views
from hoarfrost.errors import ArgumentError
from hoarfrost.samples import Order
from hoarfrost.samples.dataset import Samples
from hoarfrost.samples.renditions import Renditions
from shared.images import NORMALISE, PLAIN, RANDOM, images
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
    renditions = Renditions(samples, 0, Views(base="clean"))
    ids = torch.arange(N)
    plain = images(N, PLAIN)
    clean = samples.images(ids, renditions.view(0, 0))[0]
    assert torch.equal(clean, torch.stack([plain[i][0] for i in range(N)]))
    moved = samples.pipeline.placement(renditions.view(0, 1), ids, (28, 28))
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


def test_a_mirrored_view_is_the_mirror_image_of_the_base_view() -> None:
    samples = Samples(images(N, v2.Compose([v2.RandomCrop(28, padding=4), v2.RandomHorizontalFlip(), *NORMALISE])))
    ids = torch.arange(N)
    for base in ("clean", "random"):
        renditions = Renditions(samples, 0, Views(2, base=base, further="mirrored"))
        shown = [samples.images(ids, renditions.view(3, view))[0] for view in range(2)]
        assert torch.equal(shown[1], shown[0].flip(3))
        again = samples.rendering.draw(renditions.view(3, 1).seed)
        assert torch.equal(samples.images(ids, again)[0], shown[1])


def test_what_is_drawn_anew_is_mirrored_too() -> None:
    samples = Samples(images(N, RANDOM))
    renditions = Renditions(samples, 0, Views(2, further="mirrored"))
    ids = torch.arange(N)
    first, later = (samples.images(ids, renditions.view(3, 1, edition))[0] for edition in (0, 1))
    assert not torch.equal(first, later)
    base, turned = (samples.pipeline.is_mirrored(renditions.view(3, view, 1), ids) for view in range(2))
    assert torch.equal(base, ~turned)


def test_without_a_flip_there_is_no_mirror_image() -> None:
    samples = Samples(images(N, PLAIN))
    assert not Renditions(samples, 0, Views(2, further="mirrored")).mirrors
    with pytest.raises(ArgumentError, match="no step flips from side to side"):
        samples.pipeline.mirrored(samples.pipeline.still(N))


def test_a_chunk_shares_one_rendition() -> None:
    samples, order = Samples(images(N, RANDOM)), Order(N, 0, chunk_size=4)
    renditions = Renditions(samples, 0, Views(grain="chunk"), order)
    maps = samples.pipeline.placement(renditions.moved(2), torch.arange(N), (28, 28)).maps
    for chunk in range(order.chunks):
        members = order.members(chunk)
        assert bool((maps[members] == maps[members[0]]).all())
    leaders = maps[[int(order.members(chunk)[0]) for chunk in range(order.chunks)]]
    assert len({str(one.tolist()) for one in leaders}) > 1
    assert Renditions(samples, 0).moved(2).seed == renditions.live(2).seed
