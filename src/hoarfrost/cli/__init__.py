"""The command: parse, call, print."""

from .app import app

__all__ = ["app"]
