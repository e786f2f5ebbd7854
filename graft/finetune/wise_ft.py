"""WiSE-FT: weights between those a stage started from and those it came to (Wortsman et al. 2022)."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from graft.finetune.cross_fitting import CrossFitted, Fold, predictions
from graft.finetune.stage_plan import Stage
from graft.finetune.trainable_state import copied, moving
from graft.finetune.trainer import mean_loss
from graft.models.classifier import Classifier

SHARES = (0.25, 0.5, 0.75)
"""Of the way; all of it is what the stage came to."""


def blended(start: Classifier, end: Classifier, stage: Stage, share: float) -> Classifier:
    """Return a classifier whose weights are `share` of the way from `start` to `end`, in eval mode."""
    found = copied(start, stage.groups).eval()
    towards = moving(end, stage.groups)
    with torch.no_grad():
        for name, tensor in moving(found, stage.groups).items():
            if tensor.is_floating_point():
                tensor.lerp_(towards[name], share)
            else:
                tensor.copy_(towards[name])
    return found


def best_share(folds: Sequence[Fold], fitted: CrossFitted, stage: Stage) -> tuple[float, CrossFitted]:
    """Return how far to go from start to end, by the loss on all held-out images, and the folds' results there."""
    best, chosen, least = fitted, 1.0, mean_loss(fitted.after, fitted.targets)
    for share in SHARES:
        classifiers = tuple(
            blended(fold.start, end, stage, share) for fold, end in zip(folds, fitted.classifiers, strict=True)
        )
        after = predictions(classifiers, folds)
        if (loss := mean_loss(after, fitted.targets)) < least:
            best = replace(fitted, classifiers=classifiers, after=after)
            chosen, least = share, loss
    return chosen, best
