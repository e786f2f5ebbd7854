"""When to leave a model alone, decided without a label of the target domain.

Each guard is one number, one limit and one sentence. No confidence enters: that of an unadapted model is worthless
under a shift. docs/adaptation.md tells what they were measured on.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

from graft.heads.protocols import Floats
from graft.models.bundle_spec import GuardResult
from graft.params.adapt import AdaptParams
from graft.quality.dataset_shift import Shift
from graft.tasks.task import Bools

SIGNIFICANCE = 0.05


def images_guard(images: int, params: AdaptParams) -> GuardResult:
    """Return whether there are enough images."""
    passed = images >= params.min_images
    sentence = f"{images} images" + ("" if passed else f", fewer than adapt.min_images={params.min_images}")
    return GuardResult(
        name="images", value=float(images), limit=float(params.min_images), passed=passed, sentence=sentence
    )


def shift_guard(shift: Shift, params: AdaptParams) -> GuardResult:
    """Return whether the domain's images look different from the training images."""
    passed = shift.low > params.shift
    measured = f"AUROC {shift.auroc:.3f}, interval {shift.low:.3f} to {shift.high:.3f}"
    sentence = (
        f"A classifier tells these images from the training images: {measured}"
        if passed
        else f"These images look like the training images: {measured}, not shown to be above {params.shift:g}"
    )
    return GuardResult(name="shift", value=shift.low, limit=params.shift, passed=passed, sentence=sentence)


def class_gap_guard(before: Floats, now: Floats, labels: Sequence[str], params: AdaptParams) -> GuardResult:
    """Return whether the classes are about as frequent as in training.

    Args:
        before: shares among the training images, (C,).
        now: estimated in the target, (C,).
        labels: names of the classes.
        params: the limits.
    """
    gap = float(np.abs(now - before).sum() / 2)
    passed = gap < params.class_gap
    sentence = f"The classes are about as frequent as in training: {gap:.2f} apart, less than {params.class_gap:g}"
    if not passed:
        most, least = int((now - before).argmax()), int((now - before).argmin())
        sentence = (
            f"The classes seem to differ in frequency: {gap:.2f} apart, not below {params.class_gap:g}; "
            f"{labels[most]!r} {before[most]:.0%} in training and about {now[most]:.0%} here, "
            f"{labels[least]!r} {before[least]:.0%} and about {now[least]:.0%}"
        )
    return GuardResult(name="class_gap", value=gap, limit=params.class_gap, passed=passed, sentence=sentence)


def agreement_guard(before: float, now: float, params: AdaptParams) -> GuardResult:
    """Return whether two independent views agree on more images than before.

    Args:
        before: share of images on which they agreed before.
        now: after adaptation.
        params: the limits.
    """
    gain = now - before
    passed = gain >= params.agreement_gain - 1e-9
    agreed = f"two views agree on {now:.1%} of the images after adaptation and on {before:.1%} before"
    sentence = agreed[0].upper() + agreed[1:]
    if not passed:
        sentence += f": {gain:+.3f}, less than {params.agreement_gain:+g}"
    return GuardResult(name="agreement_gain", value=gain, limit=params.agreement_gain, passed=passed, sentence=sentence)


def check_guard(before: Bools, now: Bools) -> GuardResult:
    """Return whether labelled images of the target show that the adapted model is better (exact McNemar test).

    Args:
        before: which answers of the model as it was are right, (m,).
        now: of the adapted one, (m,).
    """
    gained, lost = int((now & ~before).sum()), int((before & ~now).sum())
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    passed = gained > lost and p_value < SIGNIFICANCE
    sentence = (
        f"On {len(now)} labelled images {gained} answers became right and {lost} wrong (exact McNemar test, "
        f"p = {p_value:.2g})"
    )
    if not passed:
        sentence += f": not shown to be better (p below {SIGNIFICANCE:g})"
    return GuardResult(name="check", value=p_value, limit=SIGNIFICANCE, passed=passed, sentence=sentence)


def agreement(first: Floats, second: Floats) -> float:
    """Return the share of images for which two sets of probabilities (n, C) give the same answer."""
    return float((first.argmax(axis=1) == second.argmax(axis=1)).mean())
