"""How an item is rendered: what the transform is called with, and where in the item its results stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..augment import (
    MOVING_WITH_IMAGES,
    STILL,
    Draw,
    Pipeline,
    check_repeatable,
    derive_targets,
    deterministic,
    is_apart,
    known_names,
    mirrored_seed,
    moves_by_type,
    takes_two,
)
from ..cache import hash_samples
from ..errors import DatasetError
from ..seeds import mix
from .form import Form
from .left_behind import refuse_masks, refuse_sanitizing, warn_of_boxes
from .own_transform import PassThrough
from .places import Key, Place, at, is_image, items_of, leaves_below, path_of, places_of, replaced, shape_of, told_place

__all__ = ["Call", "Rendering"]

_HELD = 8
"""Draws that are remembered: of calls that draw by themselves, and of what is rendered once more."""


@dataclass(frozen=True)
class Call:
    """One call of the transform for one item.

    Attributes:
        places: of what it takes and gives: an image, and what moves with it; () is the whole item.
        names: the keywords that these are given by; none where they are given by position.
        number: of its draw: 0 is the rendition's own, others are drawn beside it.
        listed: all behind the image are given as one list.
        single: it takes an image alone, and gives one.
    """

    places: tuple[Place, ...]
    names: tuple[str, ...] = ()
    number: int = 0
    listed: bool = False
    single: bool = True

    def images(self, pipeline: Pipeline, items: Sequence[Any], ids: Tensor, draw: Draw) -> Tensor:
        """What it makes of its image, [B, C, H, W]."""
        return pipeline.render([at(item, self.places[0]) for item in items], ids, draw)

    def render(self, pipeline: Pipeline, items: Sequence[Any], ids: Tensor, draw: Draw) -> list[Any]:
        """The items with what it gives in its places."""
        if self.single:
            made: list[list[Any]] = [[image] for image in self.images(pipeline, items, ids, draw)]
        elif self._takes_sample:
            given = pipeline.render_samples([self._taken(item) for item in items], ids, draw)
            made = [[one[name] for name in self.names] if self.names else [one] for one in given]
        else:
            images, others = zip(*map(self._taken, items), strict=True)
            rendered = pipeline.render_with(images, others, ids, draw)
            made = [[image, *(o if self.listed else [o])] for image, o in zip(*rendered, strict=True)]
        return [self._put(item, parts) for item, parts in zip(items, made, strict=True)]

    def check(self, pipeline: Pipeline, items: Sequence[Any], ids: Sequence[int], draw: Draw) -> None:
        """Raise UnstableTransformError where one draw gives two renditions of a sample."""
        taken = [self._taken(item) for item in items]
        if self._takes_sample:
            check_repeatable(pipeline, taken, ids, draw)
        else:
            check_repeatable(pipeline, [image for image, _ in taken], ids, draw, [other for _, other in taken])

    @property
    def _takes_sample(self) -> bool:
        return bool(self.names) or len(self.places) == 1

    def _taken(self, item: Any) -> Any:
        """A sample, or an image and what belongs to it."""
        parts = [at(item, place) for place in self.places]
        if self.names:
            return dict(zip(self.names, parts, strict=True))
        return parts[0] if len(parts) == 1 else (parts[0], parts[1:] if self.listed else parts[1])

    def _put(self, item: Any, parts: Sequence[Any]) -> Any:
        for place, part in zip(self.places, parts, strict=True):
            item = replaced(item, place, part)
        return item


class ByName:
    """A function that is called with keywords, as one of a mapping."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform
        self.__name__ = getattr(transform, "__name__", type(transform).__name__)

    def __call__(self, sample: Mapping[str, Any]) -> Any:
        return self.transform(**sample)


class Rendering:
    """What a transform makes of items: a pure function of item and draw.

    Args:
        calls: of the transform, for each item.
        samples: in the data set.
    """

    def __init__(self, pipeline: Pipeline, calls: Sequence[Call], samples: int) -> None:
        self.pipeline, self.calls, self._samples = pipeline, tuple(calls), samples
        self._draws: dict[tuple[int, int], Draw] = {}

    @classmethod
    def told(cls, transform: Any, item: Any, form: Form, samples: int) -> Rendering:
        """Of a transform that was handed over, by the first item: it renders the images that are the input.

        What moves with its image by its type (masks, boxes and keypoints of `tv_tensors`) or by its name (of
        albumentations) is given to it too, as is the other part of a pair to a function of two. A function that takes
        no image, but the item, gets that.

        Args:
            form: of items as they are.
        """
        pipeline = Pipeline.from_transform(transform)
        refuse_sanitizing(pipeline)
        calls = [Call((place,), number=number) for place, number in _inputs(form, item)]
        if len(calls) == 1:
            calls = [_with_what_moves(pipeline, calls[0].places[0], item)]
        made = cls(pipeline, calls, samples)
        whole = cls(pipeline, [Call(((),), single=False)], samples)
        unknown = any(step.kind == "image-only" or step.is_declared for step in pipeline.steps)
        if unknown and isinstance(item, Mapping) and not made._runs(item) and whole._runs(item):
            return whole
        return made._of_what_it_gives(item)

    @classmethod
    def own(cls, transform: Any, stand_in: PassThrough, item: Any, dataset: Any) -> Rendering | None:
        """Of a data set's own transform, by what it was called with for the first item; None where it was not called.

        Raises:
            DatasetError: the item does not hold what came back, as it came.
        """
        pipeline, calls, taken = Pipeline.from_transform(transform), [], set[Place]()
        for number, (args, keywords) in enumerate(stand_in.calls()):
            places: list[Place] = []
            for given in (*args, *keywords.values()):
                found = next((place for place in places_of(item, given) if place not in taken), None)
                if found is None:
                    raise stand_in.refusal(dataset, "works on what comes of it")
                taken.add(found)
                places.append(found[0] if len(found) == 1 else found)
            if (args or "image" not in keywords) if keywords else len(places) > 2:
                raise stand_in.refusal(dataset, f"calls it with {len(args)} things and {len(keywords)} keywords")
            single = len(places) == 1 and not keywords and is_image(at(item, places[0]))
            calls.append(Call(tuple(places), tuple(keywords), number, single=single))
        if any(call.names for call in calls) and not known_names(pipeline.steps):
            named = ByName(transform)
            declared = all(step.is_declared for step in pipeline.steps)
            pipeline = Pipeline.from_transform(deterministic(named) if declared else named)
        if len(calls) == 1 and len(calls[0].places) == 2 and moves_by_type(pipeline.steps):
            image, beside = calls[0].places
            if is_image(at(item, image)) and is_apart(at(item, image), at(item, beside)):
                calls = [Call((image,))]
        return cls(pipeline, calls, len(dataset))._of_what_it_gives(item) if calls else None

    def renders_more(self, form: Form, rendered: Any) -> bool:
        """Whether the transform renders more of an item than the images that features take the place of.

        Args:
            rendered: an item.
        """
        gone = set(map(path_of, form.images_of(rendered)))
        gone |= set(map(path_of, form.mains)) if form.pair else set()
        touched = (path for call in self.calls for place in call.places for path, _ in leaves_below(rendered, place))
        return any(path not in gone for path in touched)

    def leaves_rests(self, form: Form, rendered: Any) -> bool:
        """Whether items without their images are the same before it and behind it."""
        gone = set(map(path_of, form.images_of(rendered)))
        return all(call.single and path_of(call.places[0]) in gone for call in self.calls)

    def render(self, items: Sequence[Any], ids: Tensor, draw: Draw) -> list[Any]:
        """Items as the user's own data set and transform would give them under these decisions."""
        made = list(items)
        for call in self.calls:
            made = call.render(self.pipeline, made, ids, self.draw_of(draw, call.number))
        return made

    def render_apart(self, items: Sequence[Any], ids: Tensor, draw: Draw, form: Form) -> list[Any]:
        """Likewise one by one: items whose input differs in length.

        Raises:
            DatasetError: the transform gives another shape than it gets.
        """
        if not self.pipeline.steps:
            return list(items)
        made = [self.render([item], number[None], draw)[0] for item, number in zip(items, ids, strict=True)]
        for before, after in zip(map(form.main_of, items), map(form.main_of, made), strict=True):
            if shape_of(after) != shape_of(before):
                raise DatasetError(
                    f"the transform makes {list(shape_of(after) or ())} of an input of {list(shape_of(before) or ())}: "
                    "where inputs differ in length it must keep theirs, since they are stored by it"
                )
        return made

    def keeps_shapes(self, items: Sequence[Any], form: Form) -> bool:
        """Whether inputs are rendered in the shapes that they have; images of any size become images of one."""
        shapes = {shape_of(form.main_of(item)): item for item in items}
        if None in shapes:
            return False
        made = {shape: self.render([item], _FIRST, self.draw(0))[0] for shape, item in shapes.items()}
        return all(shape_of(form.main_of(item)) == shape for shape, item in made.items())

    def shown(self, item: Any) -> Any:
        """The first item as it is rendered with as little change as can be."""
        return self.render([item], _FIRST, self.draw(STILL))[0]

    def check(self, items: Sequence[Any], ids: Sequence[int]) -> None:
        """Render a few items twice.

        Raises:
            UnstableTransformError: one draw gives two renditions of an item.
        """
        if self.pipeline.uses_global_random_states:
            for call in self.calls:
                call.check(self.pipeline, items, ids, self.draw(STILL))

    def draw(self, seed: int, number: int = 0) -> Draw:
        """The decisions of a rendition, from the seed of its draw.

        Args:
            number: of the call of the transform; each has its own.
        """
        found = self._draws.get((seed, number))
        if found is None:
            own = mix(seed, number) if number else seed
            if seed < STILL:
                found = self.pipeline.mirrored(self.draw(mirrored_seed(seed), number))
            elif seed == STILL:
                found = self.pipeline.still(self._samples)
            else:
                found = self.pipeline.draw(self._samples, own)
            # Reading threads ask too: one dictionary is replaced by another, never changed.
            self._draws = {**dict(list(self._draws.items())[1 - _HELD :]), (seed, number): found}
        return found

    def draw_of(self, draw: Draw, number: int) -> Draw:
        """The decisions of one of the transform's calls under a draw."""
        return draw if number == 0 else self.draw(draw.seed, number)

    def draw_at(self, draw: Draw, place: Place) -> Draw:
        """The decisions by which what stands there was rendered."""
        numbers = [call.number for call in self.calls if any(_within(place, within) for within in call.places)]
        return self.draw_of(draw, numbers[0] if numbers else 0)

    def moved(
        self, rests: Sequence[Any], source: int, target: int, ids: Sequence[int], frames: Tensor
    ) -> list[Any | None]:
        """What one rendition has beside its images, moved to another; None where that would not be exact.

        Args:
            source, target: seeds of their draws.
            frames: sizes [n, 2] of the images' frames.
        """
        given = [place for call in self.calls for place in call.places]
        typed = (path for path, leaf in leaves_below(rests[0]) if isinstance(leaf, MOVING_WITH_IMAGES)) if rests else ()
        if len(self.calls) != 1 or not all(any(_within(path, place) for place in given) for path in typed):
            return [None] * len(rests)
        return derive_targets(self.pipeline, rests, self.draw(source), self.draw(target), ids, frames)

    def refuse_what_stays_behind(self, item: Any) -> None:
        """Raise DatasetError where an image moves and a mask of it would not; say it of what looks like boxes."""
        images = [call.places[0] for call in self.calls if call.single]
        if images:
            refuse_masks(self.pipeline, images[0], [place for call in self.calls for place in call.places], item)
        if self.calls:
            warn_of_boxes(self.pipeline, [place for call in self.calls if call.names for place in call.places], item)

    def to_config(self, form: Form) -> list[str]:
        """For a fingerprint: nothing where it renders the input alone."""
        plain = (Call((form.mains[0],)),)
        return [] if self.calls in ((), plain) else [repr(call) for call in self.calls]

    def views(self, item: Any) -> tuple[tuple[Key], ...] | None:
        """Keys of several renditions of one image in an item, as `Form.of` is told them; None where there are none."""
        images = [at(item, call.places[0]) for call in self.calls]
        keys = [call.places[0] for call in self.calls if call.single and not isinstance(call.places[0], tuple)]
        if len(keys) < 2 or len(keys) < len(images) or len({hash_samples([image]) for image in images}) > 1:
            return None
        return tuple((key,) for key in keys if isinstance(key, int))

    def describe(self) -> list[str]:
        """What it is called with, where that is more than an image; for people."""
        images = [told_place(call.places[0]) for call in self.calls if call.single]
        told = []
        for call in self.calls:
            where = " and ".join(map(told_place, call.places))
            if len(call.places) == 1 and call.places != ((),) and not call.single:
                told.append(f"the transform makes several things of {where}, by one draw")
            elif not call.single:
                told.append(f"the transform takes {where} together, and renders them by one draw")
        if len(images) > 1:
            how = "by one draw" if len({call.number for call in self.calls}) == 1 else "each by a draw of its own"
            told.append(f"the transform renders {' and '.join(images)}, {how}")
        return told

    def _runs(self, item: Any) -> bool:
        try:
            self.shown(item)
        except Exception:
            return False
        return True

    def _of_what_it_gives(self, item: Any) -> Rendering:
        """The same, knowing where several views come of one image."""
        calls = [replace(call, single=call.single and not self._gives_several(call, item)) for call in self.calls]
        return Rendering(self.pipeline, calls, self._samples)

    def _gives_several(self, call: Call, item: Any) -> bool:
        several = replace(call, single=False)
        try:
            (made,) = several.render(self.pipeline, [item], _FIRST, self.draw(STILL))
        except Exception:  # an error of the transform is told where it is met again
            return False
        return call.single and isinstance(at(made, call.places[0]), list | tuple)


_FIRST = torch.zeros(1, dtype=torch.int64)


def _with_what_moves(pipeline: Pipeline, image: Place, item: Any) -> Call:
    """The call with the item's only input, and what moves with it."""
    held, names = items_of(item) or {}, known_names(pipeline.steps)
    if takes_two(pipeline.steps) and isinstance(item, tuple | list) and len(item) == 2 and isinstance(image, int):
        return Call((image, 1 - image), single=False)
    named = [key for key in held if key in names and key not in (image, "image")]
    if named:
        return Call((image, *named), ("image", *named), single=False)
    moving = [path for path, leaf in leaves_below(item) if isinstance(leaf, MOVING_WITH_IMAGES)]
    return Call((image, *moving), listed=True, single=False) if moving else Call((image,))


def _inputs(form: Form, item: Any) -> list[tuple[Place, int]]:
    """Places of the images that the model is called with, with the number of the call: what one call takes is rendered
    by one draw."""
    images = form.mains if form.pair else form.images_of(item)
    rows = (form.arguments or ((),), *form.further)
    return [(place, next(n for n, arguments in enumerate(rows) if place in arguments)) for place in images]


def _within(place: Place, outer: Place) -> bool:
    path, within = path_of(place), path_of(outer)
    return path[: len(within)] == within
