"""How frequent each class is in the target, estimated from answers to its images without a label.

The mean of the answers leans towards the shares in training, because a classifier that is in doubt answers with what
was frequent there. Expectation maximisation corrects it (Saerens et al. 2002): weight the answers by the shares found
so far over those in training, take their mean, and repeat. Run to its end, it takes doubt for absence where answers are
not calibrated, as after adaptation; so it is stopped early.
"""

import numpy as np

from graft.heads.protocols import Floats

STEPS = 2


def class_shares(probabilities: Floats, prior: Floats, steps: int = STEPS) -> Floats:
    """Return the estimated share of each class, (C,).

    Args:
        probabilities: answers, (n, C).
        prior: shares in training, (C,).
        steps: of expectation maximisation.
    """
    known, shares = np.maximum(prior, 1e-12), prior
    for _ in range(steps):
        weighted = probabilities * (shares / known)
        shares = (weighted / np.maximum(weighted.sum(axis=1, keepdims=True), 1e-300)).mean(axis=0)
    return np.asarray(shares, dtype=np.float64)
