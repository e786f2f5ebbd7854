"""Whether a stage of fine-tuning is kept: by the paired difference in log loss on images it did not see."""

from graft.finetune.cross_fitting import CrossFitted
from graft.finetune.trainer import Ints, Logits, losses, mean_loss
from graft.heads.depth_selection import paired_difference


def judge(fitted: CrossFitted, where: str, *, asked: bool) -> tuple[bool, str]:
    """Return whether a stage is kept, and why.

    Args:
        fitted: what it came to.
        where: what its held-out images are called.
        asked: whether the user asked for just this stage: then it need only be no worse.
    """
    gain, error, told = _compared(fitted.before, fitted.after, fitted.targets)
    told = f"{where}: {told}"
    if fitted.best_epoch == 0:
        return False, f"rolled back: no epoch was better; {told}"
    if gain <= (0.0 if asked else error) or _right(fitted.after, fitted.targets) < _right(
        fitted.before, fitted.targets
    ):
        return False, f"rolled back: no clear gain; {told}"
    return True, f"kept; {told}"


def veto(before: Logits, after: Logits, targets: Ints, reason: str) -> tuple[bool, str]:
    """Return whether a stage that its folds spoke for is kept, once it was trained on all training images.

    It is not if validation is clearly worse for it (by more than a standard error of the log loss), or less accurate.

    Args:
        before: validation logits (n, C) of the best model so far.
        after: those of the stage's result.
        targets: validation classes (n,).
        reason: why its folds spoke for it.
    """
    gain, error, told = _compared(before, after, targets)
    if gain < -error or _right(after, targets) < _right(before, targets):
        return False, f"rolled back: worse on validation: {told}; {reason.removeprefix('kept; ')}"
    return True, f"{reason}; validation: {told}"


def _compared(before: Logits, after: Logits, targets: Ints) -> tuple[float, float, str]:
    gain, error = paired_difference(losses(before, targets), losses(after, targets))
    told = (
        f"log loss {mean_loss(before, targets):.3f} -> {mean_loss(after, targets):.3f} (standard error of the change "
        f"{error:.3f}), right {_right(before, targets)} -> {_right(after, targets)} of {len(targets)}"
    )
    return gain, error, told


def _right(logits: Logits, targets: Ints) -> int:
    return int((logits.argmax(1) == targets).sum())
