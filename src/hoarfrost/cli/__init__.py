"""The command.

In come words. Out go results on stdout, and errors as one sentence on stderr.
"""

from .app import app

__all__ = ["app"]
