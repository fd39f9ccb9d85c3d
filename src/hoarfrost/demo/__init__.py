"""The main job on the embedded data, beside its honest rivals."""

from .stories import comparison, finetuning, from_scratch, run_demo, run_story

__all__ = ["comparison", "finetuning", "from_scratch", "run_demo", "run_story"]
