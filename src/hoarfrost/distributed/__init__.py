"""Several processes that train one model, as torch.distributed started them.

In: the process group. Out: which of them this one is, what one of them says told to all, and who has ended.
"""

from .ranks import Ranks, failure

__all__ = ["Ranks", "failure"]
