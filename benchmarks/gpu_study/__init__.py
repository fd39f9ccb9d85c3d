"""What `gpu.py` measures: models, how much of it, on which images; and where it is written."""

from .jpegs import CLASSES, Jpegs, make_jpegs
from .report import Report
from .subjects import FULL, QUICK, Size, Subject

__all__ = ["CLASSES", "FULL", "QUICK", "Jpegs", "Report", "Size", "Subject", "make_jpegs"]
