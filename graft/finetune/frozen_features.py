"""What the model before fine-tuning makes of the images: as extract_features stored it, or computed again."""

import numpy as np
import numpy.typing as npt

from graft.finetune.image_views import ImageViews
from graft.finetune.stage_inputs import uncached_inputs
from graft.finetune.tuning_context import TuningContext
from graft.models.inference import cached_logits
from graft.training.objective import Logits
from graft.training.prediction import predict, read_features


def frozen_features(context: TuningContext, *images: ImageViews) -> npt.NDArray[np.float32]:
    """Return the features (n, D) that the head before fine-tuning reads, of several sets of images in turn.

    Args:
        context: shared by all stages.
        images: without augmentation.
    """
    start = context.start.classifier
    if context.store is None:
        return np.concatenate([read_features(start, uncached_inputs(views)) for views in images])
    rows = np.concatenate([views.rows for views in images])
    return context.store.mapped(start.head.spec.taps, rows).read()


def frozen_logits(context: TuningContext, images: ImageViews) -> Logits:
    """Return the logits (n, C) of images, without augmentation, by the head on frozen features."""
    if context.store is None:
        return predict(context.start.classifier, uncached_inputs(images))
    return cached_logits(context.store, context.start, images.rows)
