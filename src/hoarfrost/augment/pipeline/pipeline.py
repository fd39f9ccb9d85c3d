"""A user's transform as a pure function of (sample, seed), with its geometry known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...errors import ArgumentError
from ...provenance import code_of, describe_object
from ..geometry.placement import Placement, as_sizes
from ..transforms.flips import HorizontalFlip
from ..transforms.own_states import find_states
from ..transforms.randomness import generator_for
from .batching import Batch, as_tensor, check_alike, unstack
from .draws import STILL, Draw, mirrored_seed
from .joint import apply_together, as_masks, is_apart, moves_by_type
from .step_images import apply_to_images, as_batch
from .step_placement import advance, first_paired, frame_sizes
from .steps import Step, split

__all__ = ["Pipeline"]

# Handled at once, so that the images stay in the processor's cache from step to step: 85 of 3x32x32, 1 of
# 3x224x224.
_VALUES_TOGETHER = 1 << 18

_SEEN = {True: "; it drew random numbers when it was tried", False: "; it drew none when it was tried"}
_MAY_BE_FIXED = " (wrap it in hoarfrost.augment.deterministic if it decides nothing at random)"


class Pipeline:
    """A torchvision transform, split into steps whose random decisions are drawn beforehand.

    ```
    pipeline = Pipeline.from_transform(Compose([RandomCrop(32, padding=4), RandomHorizontalFlip(), ToTensor()]))
    draw = pipeline.draw(50_000, seed=0)
    images = pipeline.render([dataset[i][0] for i in ids], ids, draw)       # [B, 3, 32, 32]
    ```

    A rendition depends on the sample and the draw alone: not on its batch, the order, or any global random state.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        self._drew: list[bool] | None = None

    @classmethod
    def from_transform(cls, transform: Any) -> Pipeline:
        """Take over a transform (v1 or v2; Compose, nn.Sequential, a single one, or None) as it is.

        Raises:
            ArgumentError: something that cannot be called.
        """
        return transform if isinstance(transform, Pipeline) else cls(split(transform))

    @property
    def is_random(self) -> bool:
        """Whether two renditions of a sample can differ."""
        return any(step.is_random for step in self.steps)

    @property
    def is_derivable(self) -> bool:
        """Whether `placement` says all that differs between renditions: every random step is paired."""
        return all(step.kind == "paired" for step in self.steps if step.is_random)

    @property
    def uses_global_random_states(self) -> bool:
        """Whether rendering borrows the process's random states: then no other thread may draw meanwhile."""
        return any(step.kind == "image-only" for step in self.steps)

    def describe(self) -> list[str]:
        """One line a step: its name, its kind and why, and what `check_repeatable` saw of it."""
        lines, seen = [], repeat(None, len(self.steps)) if self._drew is None else iter(self._drew)
        for step, drew in zip(self.steps, seen, strict=True):
            said = _SEEN[drew] if drew is not None and step.kind == "image-only" else ""
            way_out = _MAY_BE_FIXED if step.is_unknown and not drew else ""
            lines.append(f"{step.name}: {step.kind}, {step.reason}{said}{way_out}")
        return lines

    def remember_drawing(self, drew: Sequence[bool]) -> None:
        """Keep for `describe` which steps were seen to draw random numbers."""
        self._drew = list(drew)

    def to_config(self) -> dict[str, Any]:
        """JSON for a fingerprint: the steps' types, parameters and code, helpers and global constants too, the same in
        every process."""
        steps = [{"kind": step.kind, "transform": describe_object(step.transform)} for step in self.steps]
        return {"steps": steps, "code": code_of(step.transform for step in self.steps)}

    def draw(self, samples: int, seed: int) -> Draw:
        """The random decisions for samples 0 to samples - 1: a function of samples, seed and steps.

        Raises:
            ArgumentError: a negative number of samples.
        """
        if samples < 0:
            raise ArgumentError(f"Pipeline.draw: samples must be 0 or more, got {samples}")
        decisions: list[Tensor | None] = []
        for position, step in enumerate(self.steps):
            generator = generator_for("draw", seed, position, step.kind)
            if step.paired is not None:
                decisions.append(step.paired.sample(samples, generator))
            elif step.kind == "image-only":
                decisions.append(torch.randint(0, 1 << 62, (samples, 1), generator=generator, dtype=torch.int64))
            else:
                decisions.append(None)
        return Draw(int(seed), samples, tuple(decisions))

    def still(self, samples: int) -> Draw:
        """The rendition that changes least: no flips, crops from the middle; image-only steps are drawn
        from seed 0.

        Raises:
            ArgumentError: a negative number of samples.
        """
        draw = self.draw(samples, 0)
        steps = zip(self.steps, draw.decisions, strict=True)
        return Draw(STILL, samples, tuple(s.paired.still(samples) if s.paired is not None else d for s, d in steps))

    @property
    def can_mirror(self) -> bool:
        """Whether it flips from side to side, so that every rendition can be had the other way round."""
        return bool(self._flips)

    @property
    def _flips(self) -> list[int]:
        """Positions of the steps that do."""
        return [position for position, step in enumerate(self.steps) if isinstance(step.paired, HorizontalFlip)]

    def mirrored(self, draw: Draw) -> Draw:
        """A draw's renditions the other way round: what its last flip has left is flipped, and what it has flipped is
        left. Mirror images, unless a random crop follows that flip.

        Raises:
            ArgumentError: no step flips from side to side.
        """
        if not self.can_mirror:
            raise ArgumentError("Pipeline.mirrored: no step flips from side to side, so no rendition is mirrored")
        last, decisions = self._flips[-1], list(draw.decisions)
        decisions[last] = 1 - self._flipped(draw, last)
        return Draw(mirrored_seed(draw.seed), draw.samples, tuple(decisions))

    def is_mirrored(self, draw: Draw, ids: Sequence[int] | Tensor) -> Tensor:
        """Of which samples [n] a draw shows the side on the left that lies on the right: bool [n]."""
        rows = self._rows(ids, draw)
        flips = sum((self._flipped(draw, position)[rows, 0] for position in self._flips), torch.zeros_like(rows))
        return flips % 2 == 1

    @staticmethod
    def _flipped(draw: Draw, position: int) -> Tensor:
        """Decisions [samples, 1] of a flip: 1 where it does."""
        decisions = draw.decisions[position]
        return torch.zeros(draw.samples, 1, dtype=torch.int64) if decisions is None else decisions

    def render(self, items: Sequence[Any] | Tensor, ids: Sequence[int] | Tensor, draw: Draw) -> Tensor:
        """The images of some samples under a draw.

        The whole batch is handled at once where that gives the bits of the user's own transform; the rest one
        by one, on the type of object that the user's own transform would have got. Images that are still PIL
        or arrays behind the last step become floats as by ToTensor; tensors of any equal shape are stacked.

        Args:
            items: B raw images: PIL, tensors [C, H, W] or arrays [H, W, C]; or tensors of any equal shape.
            ids: the B samples' numbers, rows of the draw.
            draw: from this pipeline's `draw`.

        Returns:
            [B, C, H, W], contiguous.

        Raises:
            ImageShapeError: sizes that differ behind the last step.
            DataError: a step gives something that is neither image nor tensor.
            ArgumentError: ids that the draw does not have, or another number of them than items.
        """
        rows = self._rows(ids, draw)
        if len(rows) != len(items):
            raise ArgumentError(f"Pipeline.render: {len(items)} items, but {len(rows)} ids")
        if len(rows) == 0:
            raise ArgumentError("Pipeline.render: no items; a batch has at least one")
        together = max(1, _VALUES_TOGETHER // _values(items[0]))
        own = self._own_states()
        if len(items) <= together:
            return as_tensor(self._run(list(items), rows, draw, own), rows.tolist()).contiguous()
        images = torch.empty(0)
        for i in range(0, len(items), together):
            some = rows[i : i + together]
            part = as_tensor(self._run(list(items[i : i + together]), some, draw, own), some.tolist())
            if i == 0:
                images = part.new_empty(len(items), *part.shape[1:])
            check_alike([images[0], part[0]], [int(rows[0]), int(some[0])])
            images[i : i + together] = part
        return images

    def render_with(
        self,
        items: Sequence[Any] | Tensor,
        others: Sequence[Any],
        ids: Sequence[int] | Tensor,
        draw: Draw,
        *,
        masks: bool = False,
    ) -> tuple[Tensor, list[Any]]:
        """The images of some samples under a draw, and what belongs to them, moved by the same decisions.

        The transform is called with both, as torchvision's data sets call `transforms=`: tv_tensors (masks, boxes,
        keypoints) move with their image, exactly as v2 moves them; what is no tv_tensor passes through, but for what v2
        itself takes for an image (a PIL image, an array). The images have the bits of `render` unless a step looks at
        the targets.

        Args:
            items, ids, draw: as for `render`.
            others: B trees (dict, list, tuple) of anything.
            masks: PIL images among the others are masks: they become tv_tensors.Mask first.

        Returns:
            [B, C, H, W], and B trees of the same structure.

        Raises:
            ArgumentError: a step that moves images alone, where something moves with them; or as `render`.
            DataError, ImageShapeError: as `render`.
        """
        rows = self._rows(ids, draw)
        if not len(rows) == len(items) == len(others):
            raise ArgumentError(
                f"Pipeline.render_with: {len(items)} items and {len(others)} others, but {len(rows)} ids"
            )
        beside = [as_masks(other) if masks else other for other in others]
        pairs = list(zip(items, beside, strict=True))
        if moves_by_type(self.steps) and all(is_apart(item, other) for item, other in pairs):
            return self.render(items, rows, draw), beside
        pairs = self._run_together(pairs, rows, draw)
        return as_tensor([pair[0] for pair in pairs], rows.tolist()).contiguous(), [pair[1] for pair in pairs]

    def render_samples(self, samples: Sequence[Any], ids: Sequence[int] | Tensor, draw: Draw) -> list[Any]:
        """Whole samples (dict, tuple, list) under a draw, for a transform that is called with the sample itself.

        What is an image in a sample and what moves with it is v2's own rule.

        Raises:
            ArgumentError: ids that the draw does not have, another number of them than samples, or a step that moves
                images alone.
        """
        rows = self._rows(ids, draw)
        if len(rows) != len(samples):
            raise ArgumentError(f"Pipeline.render_samples: {len(samples)} samples, but {len(rows)} ids")
        return [parts[0] for parts in self._run_together([(sample,) for sample in samples], rows, draw)]

    def run_step(
        self, position: int, parts: tuple[Any, ...], row: int, draw: Draw, together: bool = False
    ) -> tuple[Any, ...]:
        """One step alone on one sample: on (image,); or, together, on (image, other) or (sample,)."""
        step, decisions = self.steps[position], draw.decisions[position]
        own = find_states(step.transform) if step.kind == "image-only" else []
        if together:
            return apply_together(step, parts, decisions[row] if decisions is not None else None, own)
        rows = decisions[row : row + 1] if decisions is not None else None
        return tuple(unstack(apply_to_images(step, list(parts), rows, own)))

    def _run_together(self, samples: list[tuple[Any, ...]], rows: Tensor, draw: Draw) -> list[tuple[Any, ...]]:
        own = self._own_states()
        for position, (step, decisions) in enumerate(zip(self.steps, draw.decisions, strict=True)):
            picked = [None] * len(samples) if decisions is None else list(decisions[rows])
            samples = [
                apply_together(step, parts, row, own[position]) for parts, row in zip(samples, picked, strict=True)
            ]
        return samples

    def _own_states(self) -> list[list[Any]]:
        """For each step the random states that it holds itself: looked for anew, since they may be exchanged."""
        return [find_states(step.transform) if step.kind == "image-only" else [] for step in self.steps]

    def _run(
        self,
        held: Batch | list[Any],
        rows: Tensor,
        draw: Draw,
        own: list[list[Any]],
        first: int = 0,
        last: int | None = None,
    ) -> Batch | list[Any]:
        """What the steps from first to before last make of what is held."""
        for step, decisions, states in list(zip(self.steps, draw.decisions, own, strict=True))[first:last]:
            held = apply_to_images(step, held, decisions[rows] if decisions is not None else None, states)
        return held

    def blank(self, item: Any) -> Tensor | None:
        """What the last step that fills does so with, as the model sees it: the fill behind all later steps.

        Padded crops, rotations, affine maps and perspectives fill what they show beyond the image.

        A prefix's features of it are what the unknown cells of `derive` show (its `border`).

        Args:
            item: any raw image of the data set; its type and size count, its pixels do not.

        Returns:
            [1, C, H, W], or None where no step fills with a constant.
        """
        filling = [i for i, step in enumerate(self.steps) if step.paired is not None and step.paired.fills]
        if not filling:
            return None
        # Nothing later is to be erased or moved: the fill alone is to be seen.
        draw, row, behind = self.still(1), torch.zeros(1, dtype=torch.int64), filling[-1] + 1
        own = self._own_states()
        batch = as_batch(self._run([item], row, draw, own, last=behind))
        paired = self.steps[filling[-1]].paired
        if batch is None or paired is None:
            return None
        filled = batch.with_tensor(paired.blank(batch.tensor))
        return as_tensor(self._run(filled, row, draw, own, first=behind), [0])

    def frame(self, image_size: Sequence[int] | Tensor, n: int = 1) -> Tensor:
        """Sizes [n, 2] of the frames that all renditions of an image share: the image as the first paired step gets it,
        behind all that is done to every rendition alike, and so of one size for raw images of many where a fixed Resize
        or CenterCrop comes first.

        Args:
            image_size: (height, width) of the raw images in pixels, or [n, 2], one for each.

        Raises:
            ArgumentError: sizes of another shape.
        """
        return frame_sizes(self.steps, as_sizes(image_size, n))

    def placement(self, draw: Draw, ids: Sequence[int] | Tensor, frame: Sequence[int] | Tensor) -> Placement:
        """Where the renditions' pixels lie in their frames, see `frame`.

        Only paired steps, CenterCrop, Pad and Resize are seen. Where an image-only step moves pixels too,
        such as RandAugment, what is derived from placements is right for the paired part alone;
        `sensitivity` measures the rest.

        Args:
            draw: from this pipeline's `draw`.
            ids: the n samples' numbers.
            frame: (height, width) of the frames in pixels, or [n, 2], one for each.

        Raises:
            ArgumentError: ids that the draw does not have, or sizes of another shape.
            ImageShapeError: a crop is larger than an image.
        """
        rows = self._rows(ids, draw)
        framed = as_sizes(frame, len(rows))
        placement, sizes = Placement.identity(len(rows)), framed
        behind = first_paired(self.steps)
        for step, decisions in zip(self.steps[behind:], draw.decisions[behind:], strict=True):
            if step.paired is not None and decisions is not None:
                if step.paired.fills:
                    placement = placement.framed(sizes, framed)
                move, sizes = step.paired.place(decisions[rows], sizes)
                placement = placement.then(move)
            else:
                placement, sizes = advance(step.transform, placement, sizes)
        return placement

    def _rows(self, ids: Sequence[int] | Tensor, draw: Draw) -> Tensor:
        if len(draw.decisions) != len(self.steps):
            raise ArgumentError(
                f"the draw has decisions for {len(draw.decisions)} steps, this pipeline has "
                f"{len(self.steps)}: it was drawn from another one"
            )
        rows = torch.as_tensor(ids, dtype=torch.int64).reshape(-1)
        outside = rows[(rows < 0) | (rows >= draw.samples)]
        if len(outside):
            raise ArgumentError(f"sample {int(outside[0])} is not in this draw of {draw.samples} samples")
        return rows


def _values(item: Any) -> int:
    """How many values one raw image holds."""
    if isinstance(item, Image.Image):
        return max(1, item.width * item.height * len(item.getbands()))
    return max(1, item.numel() if isinstance(item, Tensor) else int(getattr(item, "size", 1)))
