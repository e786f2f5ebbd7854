"""Probabilities for the data's own label frequencies, from a head that was fitted to weighted labels.

Weights that make all labels count the same also teach a head that all are equally frequent. Where labels overlap, its
probabilities of rare ones are then too high; adding the logarithms of the labels' shares to its logits corrects that
exactly (Saerens et al. 2002; as logit adjustment, Menon et al. 2021). Where they hardly overlap, or rare labels have so
few images that the penalty holds them back, the full correction goes too far. So the share of it that is applied,
between zero and one, is fitted to held-out predictions, as the temperature is.
"""

import numpy as np
from scipy.optimize import minimize_scalar

from graft.heads.protocols import Floats
from graft.tasks.task import Targets, Task


def prior_shift(share: float, targets: Targets, task: Task) -> Floats:
    """Return what to add to logits, (outputs,).

    Args:
        share: of the full correction, from 0 to 1.
        targets: of the training images.
        task: what is learnt.
    """
    own = task.prior_logits(targets, np.full(len(targets), 1 / len(targets)))
    weighted = task.prior_logits(targets, task.image_weights(targets, task.label_weights(targets)) / len(targets))
    return share * (own - weighted)


def fit_prior_share(logits: Floats, held_out: Targets, task: Task, targets: Targets) -> float:
    """Return the share of the correction with the lowest log loss on held-out images.

    Args:
        logits: (m, outputs), of held-out images.
        held_out: their targets.
        task: what is learnt.
        targets: of the training images.
    """
    full = prior_shift(1.0, targets, task)

    def loss(share: float) -> float:
        return float(task.log_losses(task.probabilities(logits + share * full), held_out).mean())

    found = minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-3})
    return min((0.0, float(found.x), 1.0), key=loss)
