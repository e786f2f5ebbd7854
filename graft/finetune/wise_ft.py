"""WiSE-FT: interpolation between the weights before and after a stage (Wortsman et al. 2022)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from graft.finetune.cross_fitting import CrossFitted, Fold, predictions
from graft.finetune.stage_verdict import SIZE, HeldOut
from graft.models.classifier import Classifier
from graft.stats.best_of_several import equivalent_number
from graft.training.objective import Logits
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
    found = [fitted]
    for share in SHARES:
        classifiers = tuple(
            interpolated(fold.start, end, stage, share) for fold, end in zip(folds, fitted.classifiers, strict=True)
        )
        found.append(replace(fitted, classifiers=classifiers, after=predictions(classifiers, folds), share=share))
    best, choices = best_of(fitted.held_out, fitted.before, [each.after for each in found])
    return replace(found[best], choices=choices)


def best_of(held_out: HeldOut, before: Logits, after: Sequence[Logits]) -> tuple[int, float]:
    """Return which variant has the lowest loss, and of how many independent ones it is as lucky as the best.

    Args:
        held_out: the images.
        before: their logits (n, C) before the stage.
        after: their logits after it, one variant each.
    """
    losses = np.stack([held_out.image_losses(each) for each in after], axis=1)
    gains = held_out.image_losses(before)[:, None] - losses
    return int(losses.mean(axis=0).argmin()), equivalent_number(gains, held_out.groups, SIZE)
