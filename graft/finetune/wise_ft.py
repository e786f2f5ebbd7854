"""WiSE-FT: interpolation between the weights before and after a stage (Wortsman et al. 2022)."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from graft.finetune.cross_fitting import CrossFitted, Fold, predictions
from graft.models.classifier import Classifier
from graft.training.stage import Stage
from graft.training.trainable_state import copied, trainable_tensors

SHARES = (0.25, 0.5, 0.75)
"""Fractions of the way from start to end that are tried, besides 1."""


def interpolated(start: Classifier, end: Classifier, stage: Stage, share: float) -> Classifier:
    """Return a classifier whose weights are `share` of the way from `start` to `end`, in eval mode.

    Args:
        start: the model before a stage.
        end: the model after it, in eval mode; it is returned for a share of 1.
        stage: determines the groups that were trained.
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
    """Return the folds' results at the share with the lowest loss on all held-out images together."""
    best, least = fitted, fitted.held_out.loss(fitted.after)
    for share in SHARES:
        classifiers = tuple(
            interpolated(fold.start, end, stage, share) for fold, end in zip(folds, fitted.classifiers, strict=True)
        )
        after = predictions(classifiers, folds)
        loss = fitted.held_out.loss(after)
        if loss < least:
            best, least = replace(fitted, classifiers=classifiers, after=after, share=share), loss
    return best
