"""How a classifier is trained: what stays the same from epoch to epoch."""

from dataclasses import dataclass

from graft.heads.protocols import Floats


@dataclass(frozen=True)
class TrainingSettings:
    """Settings that all stages share."""

    batch_size: int
    views: int
    """Number of augmented views of each image; each epoch uses the next one."""
    layer_decay: float
    """Factor of the learning rate from one group to the one below."""
    weight_decay: float
    l2_sp: float
    """Pull of the backbone's weights towards their initial values; 0: none."""
    label_smoothing: float
    train_norms: bool
    """Whether BatchNorm in the trained groups adapts its statistics."""
    label_weights: Floats | None
    """(C,); None: all labels have the same weight."""
    seed: int
    mixup: float = 0.0
    """Both parameters of the beta distribution of the shares, see `mixup`; 0: no image is mixed."""
    norms_only: bool = False
    """Whether only norms and biases of the trained groups are trained."""
    logit_shift: Floats | None = None
    """(C,), taken off the logits before the weighted loss: what corrects the head for the weights (see
    `heads.prior_correction`), so that training goes on from the head as it was fitted; None: nothing."""
