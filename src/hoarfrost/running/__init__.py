"""A run from its description to its files, with a loop that can be interrupted and goes on.

In come options and YAML, held by `RunConfig`; out go trained models, records, checkpoints and reports. What needs torch
is imported when it is first asked for (`__init__.pyi` says from where): the command passes through here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
