"""What results come from: settings and code of models, transforms and data sets, told from outside.

In: any object that takes part. Out: JSON that changes when it does, by names that a message can give: parameters, and
the code that is reached in the user's own files, packages by their versions."""

from .code import code_of
from .ownership import package_of, versions_of
from .settings import RANDOM_STATES, describe_module, describe_object, is_plain

__all__ = ["RANDOM_STATES", "code_of", "describe_module", "describe_object", "is_plain", "package_of", "versions_of"]
