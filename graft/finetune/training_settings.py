"""How a classifier is trained in every stage: the values of the parameters, adapted for random weights."""

from graft.finetune.stage_plan import StagePlan
from graft.heads.protocols import Floats
from graft.params.fine_tune import FineTuneParams
from graft.training.settings import TrainingSettings


def training_settings(
    params: FineTuneParams,
    plan: StagePlan,
    label_weights: Floats | None,
    *,
    pretrained: bool,
    logit_shift: Floats | None = None,
) -> TrainingSettings:
    """Return the settings for the parameters.

    Random weights are not worth preserving: they get neither lower rates further down nor a pull towards their initial
    values, and their BatchNorm statistics are trained too.

    Args:
        params: the section.
        plan: determines the number of views.
        label_weights: (C,); None: all labels have the same weight.
        pretrained: whether the backbone is pretrained.
        logit_shift: (C,), of the head; None: it was not corrected for weights.
    """
    return TrainingSettings(
        batch_size=params.batch_size,
        views=plan.views,
        layer_decay=params.layer_decay if pretrained else 1.0,
        weight_decay=params.weight_decay,
        l2_sp=params.l2_sp if pretrained else 0.0,
        label_smoothing=params.label_smoothing,
        train_norms=params.norms == "adapted" or (params.norms == "auto" and not pretrained),
        mixup=params.mixup,
        norms_only=params.weights == "norms",
        label_weights=label_weights,
        seed=params.seed,
        logit_shift=logit_shift,
    )
