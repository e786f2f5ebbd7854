"""What is trained when: a stage plan is data, derived by pure rules from backbone, dataset size and parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graft.core.errors import ParamsError
from graft.imaging.augmentation import Strength
from graft.params.fine_tune import FineTuneParams
from graft.training.stage import Stage

MAX_STAGES = 2
STAGE_SHARE = 4
"""Each stage of the automatic plan unfreezes about a quarter of the groups more than the one before."""
FOLDS = 4
"""Of fewer than 500 training images, and where there are no validation images."""
FEW_FOLDS = 2
"""Of 500 to 2,000: they train each image as often as one training on all would, and hold all of them out."""
FAR = 0.05
"""A domain is far if the last group's features cost at least this much more log loss than the best group's (a twentieth
less probability for the right answer), and clearly so."""
CLEAR = 2.0
"""A difference is clear from this many standard errors on."""
FAR_RATE = 2e-3
"""Learning rate in far domains, whose features have to become others: trained on 397 digits above `blocks.3`, rates of
1e-4, 3e-4, 1e-3, 2e-3, 3e-3 and 1e-2 took the log loss of 397 others from 0.178 to 0.168, 0.151, 0.134, 0.114, 0.105
and 0.137; with both halves exchanged too, 2e-3 was the better and the steadier one of the best two."""


@dataclass(frozen=True)
class StagePlan:
    """Stages in order, each starting from the best model so far, and the augmentation of the images."""

    stages: tuple[Stage, ...]
    augment: Strength
    views: int
    folds: int
    """Number of folds of the training images that judge a stage; 0: the validation images judge it."""
    refit: bool
    """Whether the result is trained again with the validation images."""
    persistent: bool
    """Whether deeper stages are tried even if the first one brings no gain."""
    requested: bool
    """Whether the user requested exactly these stages: then they are trained and kept, with what they brought."""
    raced: bool
    """Whether a short trial decides which stage is trained completely; random weights show nothing in a short time."""
    wise_ft: bool
    """Whether a stage may end between its start and the trained weights (see `wise_ft`); random ones are no start."""

    @property
    def summary(self) -> dict[str, object]:
        """The part that the log records."""
        return {"stages": [stage.name for stage in self.stages], "augment": self.augment, "views": self.views}


def make_plan(
    groups: Sequence[str],
    images: int,
    params: FineTuneParams,
    *,
    best: str,
    pretrained: bool,
    far: bool = False,
    validation: bool = True,
) -> StagePlan:
    """Make the plan that the parameters ask for.

    Args:
        groups: the reused groups of the backbone, in forward order.
        images: number of training images.
        params: the section.
        best: the group whose features alone serve the target best (see `best_group`): the groups above it have
            specialised in the source task, so training starts there. For surgical fine-tuning the only group to train.
        pretrained: whether the backbone is pretrained; random weights need more epochs and a larger learning rate.
        far: whether the images are unlike those the backbone was trained on (see `is_far`): then features that the
            upper groups lack may be missing further down already, and a stage without a gain does not end the search.
        validation: whether there are validation images; without them folds judge every stage.

    Raises:
        ParamsError: if `depth` is not a reused group.
    """
    rule = hyper_rule(images, pretrained=pretrained)
    epochs = rule.epochs if params.epochs == "auto" else params.epochs
    lr = (FAR_RATE if far and pretrained else rule.lr) if params.lr == "auto" else params.lr
    augment = rule.augment if params.augment == "auto" else params.augment
    if params.depth not in ("auto", *groups):
        raise ParamsError(f"fine_tune.depth={params.depth!r}: expected auto or a reused group: {', '.join(groups)}")
    if params.strategy == "surgical":
        stages: tuple[Stage, ...] = (Stage((best if params.depth == "auto" else params.depth,), epochs, lr),)
    else:
        stages = tuple(Stage(tuple(groups[start:]), epochs, lr) for start in _starts(groups, best, params))
    requested = params.strategy != "staged"
    # A stage that the user asked for needs no cross-validation, unless there is nothing else to choose its epochs by.
    folds = FOLDS if not validation else 0 if requested else rule.folds
    return StagePlan(
        stages=stages,
        augment=augment,
        views=rule.views if augment != "none" or params.flip else 1,
        folds=folds if params.folds == "auto" else params.folds,
        refit=validation and (rule.refit if params.refit == "auto" else params.refit),
        persistent=far,
        requested=requested,
        raced=pretrained and not requested,
        wise_ft=params.wise_ft and pretrained,
    )


def best_group(groups: Sequence[str], log_losses: Mapping[str, float]) -> str:
    """Return the group whose features alone predict the target best.

    Args:
        groups: the reused groups of the backbone.
        log_losses: log loss of a linear probe after every group of the full backbone, by group, in forward order.
    """
    reused = [name for name in log_losses if name in groups]
    return min(reused, key=log_losses.__getitem__)


def is_far(behind: float, error: float) -> bool:
    """Return whether the domain is far from the backbone's, judged by the reuse-depth curve.

    For near domains the last features, or those just before, are best. If these have lost much of what earlier groups
    encode about the target, fine-tuning has to reach down to those groups (Yosinski et al. 2014).

    Args:
        behind: how much higher the log loss after the last group is than after the best one, paired by image.
        error: its standard error.
    """
    return behind >= max(FAR, CLEAR * error)


@dataclass(frozen=True)
class HyperRule:
    """Settings that depend only on the amount of data."""

    epochs: int
    lr: float
    augment: Strength
    views: int
    folds: int
    refit: bool


def hyper_rule(images: int, *, pretrained: bool) -> HyperRule:
    """Return epochs, learning rate and augmentation for this number of training images.

    In the spirit of BiT's hyper-rule (Kolesnikov et al. 2020): training needs a number of steps, not of epochs, so
    small sets are seen more often, and the smaller the set, the more variation it needs. Below 2,000 training images
    there are too few validation images to separate gain from noise; cross-validation halves the error of the gain, and
    it costs little. Below 5,000 the validation images are too valuable to be used only for validation.
    """
    if not pretrained:
        return HyperRule(epochs=60 if images < 5_000 else 30, lr=3e-3, augment="light", views=8, folds=0, refit=False)
    epochs = 12 if images < 500 else 8 if images < 5_000 else 5 if images < 50_000 else 3
    folds = FOLDS if images < 500 else FEW_FOLDS if images < 2_000 else 0
    return HyperRule(epochs=epochs, lr=3e-4, augment="light", views=4, folds=folds, refit=images < 5_000)


def _starts(groups: Sequence[str], best: str, params: FineTuneParams) -> list[int]:
    """Return the position of the lowest group that each stage trains."""
    if params.strategy == "all":
        return [0]
    # The last group is often only a projection: it is trained with the one before.
    top = min(max(0, len(groups) - 2), groups.index(best))
    if params.strategy == "upper":
        return [top if params.depth == "auto" else groups.index(params.depth)]
    step = max(1, round(len(groups) / STAGE_SHARE))
    lowest = max(0, top - (MAX_STAGES - 1) * step) if params.depth == "auto" else groups.index(params.depth)
    starts = list(range(top, lowest, -step))
    return [*starts, lowest]
