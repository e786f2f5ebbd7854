"""The context that all stages of a fine-tuning run share."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graft.backbones.feature_store import FeatureStore
from graft.finetune.budget import Budget
from graft.finetune.image_views import TuningImages
from graft.finetune.stage_plan import StagePlan
from graft.finetune.stage_verdict import Evidence
from graft.models.bundle import ModelBundle
from graft.models.classifier import Classifier
from graft.models.fit_head import refit_head
from graft.models.joint_bundle import JointBundle
from graft.runs.run_log import Log
from graft.tasks.task import Targets
from graft.training.checkpoints import Checkpoints
from graft.training.settings import TrainingSettings


@dataclass(frozen=True)
class TuningContext:
    """Everything that is fixed before the first stage."""

    start: ModelBundle
    """The model before fine-tuning: the trained head on frozen features."""
    plan: StagePlan
    settings: TrainingSettings
    images: TuningImages
    checkpoints: Checkpoints
    budget: Budget
    log: Log
    store: FeatureStore | None = None
    """Features of the images by the frozen backbone, row by row of the dataset; None: computed where needed."""

    @property
    def evidence(self) -> Evidence:
        """What judges a stage."""
        return "cross_validation" if self.images.folds else "validation"

    def with_head_fitted_to(self, features: npt.NDArray[np.float32], targets: Targets) -> Classifier:
        """Return the frozen backbone with a newly fitted head, in eval mode.

        Args:
            features: the head's input features of the images, (n, D).
            targets: of the same images.
        """
        if isinstance(self.start, JointBundle):
            return Classifier(self.start.backbone, self.start.with_heads_fitted(features, targets)).eval()
        weighted = self.settings.label_weights is not None
        return Classifier(self.start.backbone, refit_head(self.start, features, targets, weighted=weighted)).eval()
