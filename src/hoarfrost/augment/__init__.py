"""Augmentations on images and on features: a user's transform as views whose geometry is known."""

from hoarfrost.augment.affine import Affine
from hoarfrost.augment.batching import image_size
from hoarfrost.augment.crops import PaddedCrop
from hoarfrost.augment.derivation import Border, Form, derive
from hoarfrost.augment.deterministic import deterministic
from hoarfrost.augment.erasing import Erasing
from hoarfrost.augment.flips import HorizontalFlip, VerticalFlip
from hoarfrost.augment.grid import Grid
from hoarfrost.augment.mixing import Mix, Mixing
from hoarfrost.augment.paired import Paired
from hoarfrost.augment.perspectives import Perspective
from hoarfrost.augment.pipeline import Draw, Pipeline
from hoarfrost.augment.placement import Placement
from hoarfrost.augment.resized_crops import ResizedCrop
from hoarfrost.augment.rotations import Rotation
from hoarfrost.augment.steps import Step

__all__ = [
    "Affine",
    "Border",
    "Draw",
    "Erasing",
    "Form",
    "Grid",
    "HorizontalFlip",
    "Mix",
    "Mixing",
    "PaddedCrop",
    "Paired",
    "Perspective",
    "Pipeline",
    "Placement",
    "ResizedCrop",
    "Rotation",
    "Step",
    "VerticalFlip",
    "derive",
    "deterministic",
    "image_size",
]
