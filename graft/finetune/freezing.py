"""Which parameters learn in a stage, and at what rate."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from graft.finetune.stage_plan import Stage
from graft.models.classifier import Classifier


def apply_freeze(classifier: Classifier, trained: Sequence[str], *, train_norms: bool) -> None:
    """Let only the head and the groups in `trained` learn.

    Gradients are half of it: BatchNorm would go on adapting its statistics in every forward pass of training, so that
    a frozen backbone drifts. The classifier keeps frozen groups in eval mode through every `train()`.

    Args:
        classifier: changed in place.
        trained: names of groups.
        train_norms: whether BatchNorm in the trained groups adapts its statistics; with few images per batch the
            pretrained ones are better.
    """
    for name, group in zip(classifier.backbone.spec.groups, classifier.backbone.groups, strict=True):
        group.requires_grad_(name in trained)
    classifier.head.requires_grad_(True)
    classifier.frozen = frozenset(classifier.backbone.spec.groups) - frozenset(trained)
    classifier.train_norms = train_norms


def parameter_groups(
    classifier: Classifier, stage: Stage, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Return the optimiser's parameter groups: smaller steps further down, no decay on biases and norms.

    The head and the last group take steps of `stage.lr`, each group below `layer_decay` times those above it
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
