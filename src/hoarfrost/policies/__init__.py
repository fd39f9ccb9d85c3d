"""Policies: how deep to freeze, and when."""

from .base import Policy, TrainState, resolve_policy
from .never import Never
from .schedule import Schedule

__all__ = ["Never", "Policy", "Schedule", "TrainState", "resolve_policy"]
