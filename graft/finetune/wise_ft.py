"""WiSE-FT: weights between those a stage started from and those it came to (Wortsman et al. 2022)."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from graft.finetune.cross_fitting import CrossFitted, Fold, predictions
from graft.finetune.stage_plan import Stage
from graft.finetune.trainable_state import copied, trainable_tensors
from graft.models.classifier import Classifier

SHARES = (0.25, 0.5, 0.75)
"""Of the way from start to end that are tried besides all of it."""


def interpolated(start: Classifier, end: Classifier, stage: Stage, share: float) -> Classifier:
    """Return a classifier whose weights are `share` of the way from `start` to `end`, in eval mode.

    Args:
        start: where a stage began.
        end: where it led, in eval mode; for a share of 1 this is returned.
        stage: which groups it trained.
        share: in [0, 1].
    """
    if share == 1:
        return end
    found = copied(start, stage.groups).eval()
    towards = trainable_tensors(end, stage.groups)
    with torch.no_grad():
        for name, tensor in trainable_tensors(found, stage.groups).items():
            if tensor.is_floating_point():
                tensor.lerp_(towards[name], share)
            else:
                tensor.copy_(towards[name])
    return found


def at_best_share(folds: Sequence[Fold], fitted: CrossFitted, stage: Stage) -> CrossFitted:
    """Return the folds' results at the share of the way with the least loss on all held-out images together."""
    best = fitted
    for share in SHARES:
        classifiers = tuple(
            interpolated(fold.start, end, stage, share) for fold, end in zip(folds, fitted.classifiers, strict=True)
        )
        found = replace(fitted, classifiers=classifiers, after=predictions(classifiers, folds), share=share)
        best = found if found.loss < best.loss else best
    return best
