"""Which parameters are trained in a stage, and at which learning rate."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from graft.models.classifier import Classifier
from graft.training.stage import Stage


def apply_freeze(
    classifier: Classifier, trained: Sequence[str], *, train_norms: bool, norms_only: bool = False
) -> None:
    """Freeze everything except the head and the groups in `trained`.

    Disabling gradients is not enough: in training mode BatchNorm adapts its statistics in every forward pass, so that
    a frozen backbone would drift. The classifier keeps frozen groups in eval mode after every `train()`.

    Args:
        classifier: changed in place.
        trained: names of the groups to train.
        train_norms: whether BatchNorm in the trained groups adapts its statistics; with few images per batch the
            pretrained statistics are better.
        norms_only: whether only norms and biases of the trained groups are trained (BitFit, Ben Zaken et al. 2022).
    """
    for name, group in zip(classifier.backbone.spec.groups, classifier.backbone.groups, strict=True):
        for parameter in group.parameters():
            parameter.requires_grad_(name in trained and not (norms_only and parameter.ndim > 1))
    classifier.head.requires_grad_(True)
    classifier.frozen = frozenset(classifier.backbone.spec.groups) - frozenset(trained)
    classifier.train_norms = train_norms


def parameter_groups(
    classifier: Classifier, stage: Stage, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Return the optimiser's parameter groups: lower rates further down, no weight decay on biases and norms.

    The head and the last group get `stage.lr`, each group below gets `layer_decay` times the rate of the group above it
    (discriminative fine-tuning, Howard & Ruder 2018).
    """
    found = [_split(classifier.head, stage.lr, weight_decay)]
    modules = dict(zip(classifier.backbone.spec.groups, classifier.backbone.groups, strict=True))
    for depth, name in enumerate(reversed(stage.groups)):
        found.append(_split(modules[name], stage.lr * layer_decay**depth, weight_decay))
    return [group for pair in found for group in pair if group["params"]]


def _split(module: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    return [
        {"params": matrices, "lr": lr, "weight_decay": weight_decay},
        {"params": vectors, "lr": lr, "weight_decay": 0.0},
    ]
