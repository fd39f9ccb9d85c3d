from .config import RunConfig
from .display import RunDisplay
from .examination import Examination
from .files import Journal, RunFiles
from .launcher import process_number, started
from .learning_rate import cosine
from .loop import fit
from .processes import Processes
from .records import describe_machine, write_end, write_start
from .reporting import report_on
from .run import train
from .setup import Setup, make_optimizer, placed

__all__ = [
    "Examination",
    "Journal",
    "Processes",
    "RunConfig",
    "RunDisplay",
    "RunFiles",
    "Setup",
    "cosine",
    "describe_machine",
    "fit",
    "make_optimizer",
    "placed",
    "process_number",
    "report_on",
    "started",
    "train",
    "write_end",
    "write_start",
]
