"""The main job on the embedded data, beside its honest rivals.

In come a seed and the name of a story; out go its arms' records, a table of what each cost, and one report.
"""

from .stories import STORIES, comparison, finetuning, from_scratch, papers_method, run_demo, run_story
from .story import Outcome

__all__ = [
    "STORIES",
    "Outcome",
    "comparison",
    "finetuning",
    "from_scratch",
    "papers_method",
    "run_demo",
    "run_story",
]
