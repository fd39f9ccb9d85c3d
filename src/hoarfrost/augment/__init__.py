"""Augmentations on images and on features.

In: a user's transform, raw images, features. Out: images rendered from decisions that were drawn beforehand
(`Pipeline`, `Draw`, `Mixing`), where their pixels lie (`Placement`), and features derived from those of another view.
"""

from .geometry.cells import Form
from .geometry.derivation import Border, derive
from .geometry.grid import Grid
from .geometry.placement import Placement
from .pipeline.batching import image_size
from .pipeline.deterministic import deterministic
from .pipeline.draws import STILL, Draw, mirrored_seed
from .pipeline.joint import MOVING_WITH_IMAGES, is_apart, known_names, moves_by_type, moves_images, takes_two
from .pipeline.pipeline import Pipeline
from .pipeline.repeatability import check_repeatable
from .pipeline.steps import Step
from .pipeline.target_derivation import derive_targets
from .pipeline.unplaced import unplaced
from .transforms.affine import Affine
from .transforms.crops import PaddedCrop
from .transforms.erasing import Erasing
from .transforms.flips import HorizontalFlip, VerticalFlip
from .transforms.mixing import Mix, Mixing
from .transforms.own_states import find_states
from .transforms.paired import Paired
from .transforms.perspectives import Perspective
from .transforms.randomness import forked_random_states, seed_random_states
from .transforms.resized_crops import ResizedCrop
from .transforms.rotations import Rotation

__all__ = [
    "MOVING_WITH_IMAGES",
    "STILL",
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
    "check_repeatable",
    "derive",
    "derive_targets",
    "deterministic",
    "find_states",
    "forked_random_states",
    "image_size",
    "is_apart",
    "known_names",
    "mirrored_seed",
    "moves_by_type",
    "moves_images",
    "seed_random_states",
    "takes_two",
    "unplaced",
]
