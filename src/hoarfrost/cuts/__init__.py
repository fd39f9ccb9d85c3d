"""Where a model can be divided, and dividing it.

In: a model and an example batch, or what `survey` saw of it. Out: its cuts (`find_cuts`, `Cut`), and at one of them two
modules over the model's own parameters, `Prefix` and `Suffix`, that together compute what the model computes.
"""

from .cut import Crossing, Cut, Ragged, find_cut, misshapen
from .dividing.acting import acting_modules
from .dividing.between import Between, between
from .dividing.divide import divide, join, suffix_for
from .dividing.fronts import parameters_in_front
from .dividing.prefix import Prefix
from .dividing.suffix import Suffix
from .finding.candidates import candidate_cuts, candidate_depths
from .finding.find import cuts_of, find_cuts, require_cuts
from .finding.layers import cut_behind
from .finding.lengths import OtherLengths, lengths_of
from .finding.stage_ends import stage_ends, stage_of
from .sandbox.arguments import Example, arguments_of, call_of, called, count_of, entries_of, first_tensor, taken
from .sandbox.clone import deep_copied, shadow
from .sandbox.compiled import bare, own_name, uncompiled
from .sandbox.dispatcher import Dispatcher, dispatch
from .sandbox.hooks import hooks_apart, set_apart
from .sandbox.in_training import InTraining
from .sandbox.precision import Precision, apart, without_autocast
from .sandbox.pytrees import leaves, map_leaves, tensors_in
from .sandbox.restore import seed_randomness
from .sandbox.synchronised import unsynchronised
from .tracing.survey import survey

__all__ = [
    "Arguments",
    "Between",
    "Crossing",
    "Cut",
    "Dispatcher",
    "Example",
    "InTraining",
    "OtherLengths",
    "Precision",
    "Prefix",
    "Ragged",
    "Suffix",
    "acting_modules",
    "apart",
    "arguments_of",
    "bare",
    "between",
    "call_of",
    "called",
    "candidate_cuts",
    "candidate_depths",
    "count_of",
    "cut_behind",
    "cuts_of",
    "deep_copied",
    "dispatch",
    "divide",
    "entries_of",
    "find_cut",
    "find_cuts",
    "first_tensor",
    "hooks_apart",
    "join",
    "leaves",
    "lengths_of",
    "map_leaves",
    "misshapen",
    "own_name",
    "parameters_in_front",
    "require_cuts",
    "seed_randomness",
    "set_apart",
    "shadow",
    "stage_ends",
    "stage_of",
    "suffix_for",
    "survey",
    "taken",
    "tensors_in",
    "uncompiled",
    "unsynchronised",
    "without_autocast",
]
