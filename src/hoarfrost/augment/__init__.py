"""Augmentations on images and on features: a user's transform as views whose geometry is known."""

from hoarfrost.augment.batching import image_size
from hoarfrost.augment.crops import PaddedCrop
from hoarfrost.augment.derivation import Border, Form, Grid, derive
from hoarfrost.augment.deterministic import deterministic
from hoarfrost.augment.flips import HorizontalFlip, VerticalFlip
from hoarfrost.augment.mixing import Mix, Mixing
from hoarfrost.augment.paired import Paired
from hoarfrost.augment.pipeline import Draw, Pipeline
from hoarfrost.augment.placement import Placement
from hoarfrost.augment.steps import Step

__all__ = [
    "Border",
    "Draw",
    "Form",
    "Grid",
    "HorizontalFlip",
    "Mix",
    "Mixing",
    "PaddedCrop",
    "Paired",
    "Pipeline",
    "Placement",
    "Step",
    "VerticalFlip",
    "derive",
    "deterministic",
    "image_size",
]
