"""From stored or computed features to batches, for training and for evaluation.

In come the training data, the model's front, the policy and the caches; out go batches, epoch by epoch.
"""

from .components import Components
from .epoch_loader import EpochLoader
from .epochs import Epochs
from .evaluation import Evaluation
from .feeder import Feeder
from .mixing import mixing_of
from .notice import Notice
from .reading import SharedReadings

__all__ = ["Components", "EpochLoader", "Epochs", "Evaluation", "Feeder", "Notice", "SharedReadings", "mixing_of"]
