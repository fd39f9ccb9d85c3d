"""Data sets to start from.

In comes a name or a folder of images. Out go data sets for training and testing, with transforms that suit them.
"""

from .arrays import ImageArray
from .fashion import FASHION_CLASSES, embedded, fashion_mnist
from .folders import image_folder
from .sources import DATA_NAMES, Data, default_transforms, few, open_data
from .synthetic import photo_like

__all__ = [
    "DATA_NAMES",
    "FASHION_CLASSES",
    "Data",
    "ImageArray",
    "default_transforms",
    "embedded",
    "fashion_mnist",
    "few",
    "image_folder",
    "open_data",
    "photo_like",
]
