"""Hoarfrost: train on stored features instead of frozen layers.

Names are imported when they are first asked for (`__init__.pyi` says from where): the command answers before torch is
there, and what one does not use costs nothing.
"""

import lazy_loader

WINGS = frozenset({"augment", "cache", "codecs", "cuts", "data", "errors", "models", "policies"})
"""What can be reached as `hoarfrost.cuts`, but is no name for `from hoarfrost import *`."""

__getattr__, __dir__, _known = lazy_loader.attach_stub(__name__, __file__)

__all__ = [name for name in _known if name not in WINGS]
