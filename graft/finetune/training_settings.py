"""How a classifier is trained, whatever the stage: what the parameters say, and what random weights need instead."""

from dataclasses import dataclass

from graft.finetune.stage_plan import StagePlan
from graft.heads.protocols import Floats
from graft.runs.params import FineTuneParams

PATIENCE_FROM_SCRATCH = 4
"""Random weights get this many times the patience: their held-out loss falls late and unevenly."""


@dataclass(frozen=True)
class TrainingSettings:
    """What all stages have in common."""

    batch_size: int
    views: int
    """How many augmented views of each image there are; one epoch after another takes the next."""
    layer_decay: float
    """Factor of the learning rate from a group to the one below."""
    weight_decay: float
    l2_sp: float
    """Pull of the backbone's weights to where they began; 0: none."""
    label_smoothing: float
    patience: int
    """Epochs without a better held-out loss before a stage stops."""
    train_norms: bool
    """Whether BatchNorm in the trained groups adapts its statistics."""
    label_weights: Floats | None
    """(C,); None: all labels count the same."""
    seed: int


def training_settings(
    params: FineTuneParams, plan: StagePlan, label_weights: Floats | None, *, pretrained: bool
) -> TrainingSettings:
    """Return the settings that the parameters ask for.

    Weights that are not pretrained are not worth staying near: they get neither smaller steps further down nor a pull
    to their start, their BatchNorm statistics are learnt too, and they may take longer to improve.

    Args:
        params: the section.
        plan: decides the number of views.
        label_weights: (C,); None: all labels count the same.
        pretrained: whether the backbone's weights are.
    """
    return TrainingSettings(
        batch_size=params.batch_size,
        views=plan.views,
        layer_decay=params.layer_decay if pretrained else 1.0,
        weight_decay=params.weight_decay,
        l2_sp=params.l2_sp if pretrained else 0.0,
        label_smoothing=params.label_smoothing,
        patience=params.patience * (1 if pretrained else PATIENCE_FROM_SCRATCH),
        train_norms=not pretrained,
        label_weights=label_weights,
        seed=params.seed,
    )
