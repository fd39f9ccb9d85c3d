"""What freezing would cost, save and store, before anything is trained.

In come a model and data, given or by name, and settings; out go plans, cuts and sensitivities, as values and as tables.
"""

from .forecast import Plan
from .model_cuts import ModelCuts
from .model_plan import Elsewhere, ModelPlan
from .model_sensitivity import ModelSensitivity

__all__ = ["Elsewhere", "ModelCuts", "ModelPlan", "ModelSensitivity", "Plan"]
