"""Decides whether a stage is kept, by the paired difference in log loss on images that it was not trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from graft.finetune.cross_fitting import CrossFitted
from graft.finetune.objective import Logits, correct, mean_loss
from graft.stats.paired_difference import paired_difference
from graft.tasks.task import Targets, Task

Evidence = Literal["cross_validation", "validation"]
"""What judges a stage: all training images, each by a model that has not seen it, or the validation images."""
HELD_OUT: Mapping[Evidence, str] = {
    "cross_validation": "held-out training images",
    "validation": "validation images",
}
"""Names of the held-out images in messages."""


@dataclass(frozen=True)
class Verdict:
    """Whether a stage is kept, and why."""

    kept: bool
    reason: str


def held_out_verdict(fitted: CrossFitted, evidence: Evidence, *, requested: bool) -> Verdict:
    """Judge a stage by the images that were held out from its training.

    Args:
        fitted: the result of the stage.
        evidence: which images were held out.
        requested: whether the user requested exactly this stage: then it only has to be no worse.
    """
    change = _Change.of(fitted.task, fitted.before, fitted.after, fitted.targets)
    found = f"{HELD_OUT[evidence]}: {change.summary}"
    if fitted.best_epoch == 0:
        return Verdict(False, f"rolled back: no epoch was better; {found}")
    if change.gain <= (0.0 if requested else change.error) or change.less_accurate:
        return Verdict(False, f"rolled back: no clear gain; {found}")
    return Verdict(True, f"kept; {found}")


def validation_verdict(task: Task, before: Logits, after: Logits, targets: Targets, of_folds: Verdict) -> Verdict:
    """Judge a stage on the validation images, after it passed on its folds and was trained on all images.

    It is not kept if the validation log loss is clearly worse (by more than a standard error) or fewer answers are
    right.

    Args:
        task: the task.
        before: validation logits (n, C) of the best model so far.
        after: validation logits (n, C) of the stage's result.
        targets: of the validation images.
        of_folds: the verdict on the folds.
    """
    change = _Change.of(task, before, after, targets)
    if change.gain < -change.error or change.less_accurate:
        found = of_folds.reason.removeprefix("kept; ")
        return Verdict(False, f"rolled back: worse on validation: {change.summary}; {found}")
    return Verdict(True, f"{of_folds.reason}; validation: {change.summary}")


@dataclass(frozen=True)
class _Change:
    """How predictions of the same images differ before and after a stage."""

    gain: float
    """Decrease of the mean log loss."""
    error: float
    """Its standard error, over images."""
    less_accurate: bool
    summary: str

    @classmethod
    def of(cls, task: Task, before: Logits, after: Logits, targets: Targets) -> "_Change":
        gain, error = paired_difference(task.losses(before, targets), task.losses(after, targets))
        right_before, right_after = (int(correct(task, logits, targets).sum()) for logits in (before, after))
        loss_before, loss_after = (mean_loss(task, logits, targets) for logits in (before, after))
        summary = (
            f"log loss {loss_before:.3f} -> {loss_after:.3f} (standard error of the "
            f"change {error:.3f}), right {right_before} -> {right_after} of {len(targets)}"
        )
        return cls(gain, error, right_after < right_before, summary)
