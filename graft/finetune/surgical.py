"""Surgical fine-tuning: which single group has the largest relative gradient (Lee et al. 2023)."""

import numpy as np
import torch

from graft.models.classifier import Classifier
from graft.training.freezing import apply_freeze
from graft.training.labelled_images import LabelledImages
from graft.training.objective import TrainingLoss

MOST_IMAGES = 512
_BATCH = 16


def relative_gradient_norms(classifier: Classifier, images: LabelledImages) -> dict[str, float]:
    """Return the norm of the loss gradient divided by the norm of the weights, for every group with parameters.

    The gradient is that of the mean loss over at most `MOST_IMAGES` images, with BatchNorm in eval mode. Different
    domain shifts need different groups: early ones for blurred or noisy pictures, late ones for new kinds of classes.

    Args:
        classifier: its weights do not change, but all its groups are unfrozen afterwards.
        images: normalised images, with nothing cached.
    """
    backbone = classifier.backbone
    apply_freeze(classifier, backbone.spec.groups, train_norms=False)
    classifier.eval()
    classifier.zero_grad(set_to_none=True)
    objective = TrainingLoss(images.task)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).astype(np.int64))
    all_targets = images.targets[chosen]
    for start in range(0, len(chosen), _BATCH):
        activation, below = images.batch(chosen[start : start + _BATCH], 0)
        logits = classifier.from_boundary(activation, images.source.after, below)
        targets = torch.from_numpy(all_targets[start : start + _BATCH])
        torch.autograd.backward(objective.part_of_mean(logits, targets, all_targets))
    found = {}
    for name, group in zip(backbone.spec.groups, backbone.groups, strict=True):
        pairs = [(p.grad, p.detach()) for p in group.parameters() if p.grad is not None]
        if pairs:
            gradient = torch.stack([grad.norm() for grad, _ in pairs]).norm()
            found[name] = float(gradient / torch.stack([weight.norm() for _, weight in pairs]).norm().clamp_min(1e-12))
    classifier.zero_grad(set_to_none=True)
    return found
