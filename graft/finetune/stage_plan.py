"""What is trained when: a stage plan is data, made by pure rules from backbone, data size and parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from graft.core.errors import ParamsError
from graft.imaging.augmentation import Strength
from graft.models.classifier import Classifier
from graft.runs.params import FineTuneParams

MAX_STAGES = 2
STAGE_SHARE = 4
"""A stage of the automatic plan unfreezes about a quarter of the groups more than the one before."""
FAR = 1.25
"""A domain is far where the last group's features are this many times worse, in log loss, than the best group's."""


@dataclass(frozen=True)
class Stage:
    """Train the head and `groups`, everything else frozen."""

    groups: tuple[str, ...]
    """A run of the backbone's groups, mostly one that ends with its last."""
    epochs: int
    lr: float
    """Peak learning rate of the head and the top group."""

    @property
    def name(self) -> str:
        """The lowest group that is trained."""
        return self.groups[0]


@dataclass(frozen=True)
class StagePlan:
    """Stages in order, each starting from the best model so far, and how views of the images are made."""

    stages: tuple[Stage, ...]
    augment: Strength
    views: int
    folds: int
    """Into how many the training images are split to judge a stage; 0: the validation images judge it."""
    refit: bool
    """Whether the result is trained again with the validation images."""
    persistent: bool
    """Whether deeper stages are tried although one brought nothing."""


def make_plan(
    groups: Sequence[str], images: int, params: FineTuneParams, *, best: str, pretrained: bool, far: bool = False
) -> StagePlan:
    """Make the plan that the parameters ask for.

    Args:
        groups: of the backbone as it is reused, in forward order.
        images: number of training images.
        params: the section.
        best: the group whose features alone serve the target best (see `reuse`): what lies above it has specialised
            in the source task, so that is where training starts. For surgical fine-tuning the only group to train.
        pretrained: whether the backbone's weights are; random ones need longer and larger steps.
        far: whether the images are unlike those the backbone was trained on (see `is_far`): then what the upper groups
            lack may be missing further down already, and a stage that brings nothing does not end the search.

    Raises:
        ParamsError: if `depth` is no group that is reused.
    """
    rule = hyper_rule(images, pretrained=pretrained)
    epochs = rule.epochs if params.epochs == "auto" else params.epochs
    lr = rule.lr if params.lr == "auto" else params.lr
    augment = rule.augment if params.augment == "auto" else params.augment
    if params.depth not in ("auto", *groups):
        raise ParamsError(f"fine_tune.depth={params.depth!r}: expected auto or a reused group: {', '.join(groups)}")
    if params.strategy == "surgical":
        stages: tuple[Stage, ...] = (Stage((best if params.depth == "auto" else params.depth,), epochs, lr),)
    else:
        stages = tuple(Stage(tuple(groups[start:]), epochs, lr) for start in _starts(groups, best, params))
    refit = rule.refit if params.refit == "auto" else params.refit
    # A stage that was asked for needs no jury.
    folds = (rule.folds if params.strategy == "staged" else 0) if params.folds == "auto" else params.folds
    views = rule.views if augment != "none" else 1
    return StagePlan(stages, augment, views, folds, refit, persistent=far)


def is_far(log_losses: Sequence[float]) -> bool:
    """Tell from the reuse-depth curve whether the domain is far from the backbone's.

    Near ones are served best by the last features or those just before. Where these have lost much of what earlier
    groups knew of the target, fine-tuning has to reach down to them (Yosinski et al. 2014).

    Args:
        log_losses: of a linear probe after every group of the whole backbone, in forward order.
    """
    return log_losses[-1] >= FAR * min(log_losses)


@dataclass(frozen=True)
class HyperRule:
    """What depends on the amount of data alone."""

    epochs: int
    lr: float
    augment: Strength
    views: int
    folds: int
    refit: bool


def hyper_rule(images: int, *, pretrained: bool) -> HyperRule:
    """Return epochs, learning rate and augmentation for so many training images.

    In the spirit of BiT's hyper-rule (Kolesnikov et al. 2020): steps, not epochs, are what training needs, so small
    sets are seen more often, and the smaller the set the more it has to be varied. Below 500 training images there are
    too few for validation to tell luck from gain, and cross-validation costs little; below 5,000 the validation images
    are too good to be only looked at.
    """
    if not pretrained:
        return HyperRule(epochs=60 if images < 5_000 else 30, lr=3e-3, augment="light", views=8, folds=0, refit=False)
    epochs = 12 if images < 500 else 8 if images < 5_000 else 5 if images < 50_000 else 3
    folds = 4 if images < 500 else 0
    return HyperRule(epochs=epochs, lr=3e-4, augment="light", views=4, folds=folds, refit=images < 5_000)


def _starts(groups: Sequence[str], best: str, params: FineTuneParams) -> list[int]:
    """Return the position of the lowest group that each stage trains."""
    if params.strategy == "all":
        return [0]
    # The last group is often a mere projection: it goes with the one before.
    top = min(max(0, len(groups) - 2), groups.index(best))
    if params.strategy == "upper":
        return [top if params.depth == "auto" else groups.index(params.depth)]
    step = max(1, round(len(groups) / STAGE_SHARE))
    lowest = max(0, top - (MAX_STAGES - 1) * step) if params.depth == "auto" else groups.index(params.depth)
    starts = list(range(top, lowest, -step))
    return [*starts, lowest]


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
