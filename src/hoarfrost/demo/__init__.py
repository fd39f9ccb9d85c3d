"""The main job on the embedded data, beside its honest rivals."""

from .stories import finetuning, from_scratch, run_demo

__all__ = ["finetuning", "from_scratch", "run_demo"]
