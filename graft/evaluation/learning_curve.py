"""The learning curve: how accuracy grows with the number of training images, and whether to label more.

Cheap, because only heads are fitted, on cached features.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from graft.stats.metrics import Floats, Targets
from graft.tasks.task import Task

Fit = Callable[[Floats, Targets], Callable[[Floats], Floats]]
"""Maps training features (n, d) and targets (n,) to a function from features (m, d) to logits (m, C)."""

FRACTIONS = (0.1, 0.2, 0.4, 0.7, 1.0)
REPEATS = 3


class LearningPoint(NamedTuple):
    """Accuracy with this number of training images."""

    images: int
    accuracy: float
    """Mean over the draws."""
    low: float
    high: float
    """Lowest and highest of the draws."""


def learning_curve(
    features: Floats,
    targets: Targets,
    groups: npt.NDArray[Any],
    test_features: Floats,
    test_targets: Targets,
    fit: Fit,
    task: Task,
    *,
    fractions: Sequence[float] = FRACTIONS,
    repeats: int = REPEATS,
    seed: int = 0,
    whole: Floats | None = None,
) -> list[LearningPoint]:
    """Fit heads on nested random subsets of the training images and test each.

    Args:
        features: of the training images (n, d).
        targets: of the training images.
        groups: names (n,); a subset keeps groups together.
        test_features: of the test images (m, d).
        test_targets: of the test images.
        fit: fits one head.
        task: what is learnt.
        fractions: of the training images, ascending; those that leave a class without images are skipped.
        repeats: number of random orders to draw the subsets from.
        seed: of the orders.
        whole: the logits (m, C) of a head that was fitted to all training images; None: it is fitted here.
    """
    accuracies: dict[int, list[float]] = {}
    strata = task.strata(targets)
    for repeat in range(repeats):
        order = stratified_order(strata, groups, np.random.default_rng((seed, repeat)))
        for fraction in fractions:
            part = order[: max(1, round(fraction * len(order)))]
            if len(np.unique(strata[part])) < len(np.unique(strata)):
                continue
            if fraction == 1.0 and repeat:
                continue
            if whole is not None and len(part) == len(order):
                logits = whole
            else:
                logits = fit(features[part], targets[part])(test_features)
            right = task.correct(task.probabilities(logits), test_targets)
            accuracies.setdefault(len(part), []).append(float(right.mean()))
    return [
        LearningPoint(size, float(np.mean(found)), min(found), max(found)) for size, found in sorted(accuracies.items())
    ]


def stratified_order(
    targets: Targets, groups: npt.NDArray[Any], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return a random order of the images (n,) in which every prefix has about the same class shares.

    The images of one group are consecutive.
    """
    names, first, of_image = np.unique(groups, return_index=True, return_inverse=True)
    shuffled = generator.permutation(len(names))
    place = np.empty(len(names))
    for label in np.unique(targets[first]):
        held = shuffled[targets[first][shuffled] == label]
        place[held] = (np.arange(len(held)) + generator.random()) / len(held)
    return np.asarray(np.lexsort((np.arange(len(targets)), place[of_image])), dtype=np.int64)


def advice(curve: Sequence[LearningPoint]) -> str:
    """Return one sentence on whether more labels would help."""
    if len(curve) < 2:
        return "Too few images to say whether more of them would help."
    last = curve[-1]
    half = min(curve[:-1], key=lambda point: abs(point.images - last.images / 2))
    gain = 100 * (last.accuracy - half.accuracy)
    rates = f"{100 * half.accuracy:.1f} to {100 * last.accuracy:.1f} %"
    growth = f"From {half.images:,} to {last.images:,} training images the accuracy went from {rates}"
    if last.accuracy <= half.high:
        return f"{growth}, no more than it varies between draws of {half.images:,}: more images would help little."
    return f"{growth}: still rising by {gain:.1f} points, so labelling more should help."
