"""The command: words in, results on stdout, errors as one sentence on stderr."""

from .app import app

__all__ = ["app"]
