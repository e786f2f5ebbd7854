"""How accuracy grows with the number of labelled images: should more be labelled?

Cheap, because only linear heads are fitted, on cached features.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from graft.stats.metrics import Floats, Targets
from graft.tasks.task import Task

Fit = Callable[[Floats, Targets], Callable[[Floats], Floats]]
"""From training features (n, d) and targets (n,) to a function from features (m, d) to logits (m, C)."""

FRACTIONS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
REPEATS = 5


class LearningPoint(NamedTuple):
    """Accuracy with so many training images."""

    images: int
    accuracy: float
    """Mean over the draws."""
    low: float
    high: float
    """Least and greatest of the draws."""


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
) -> list[LearningPoint]:
    """Fit heads on nested random parts of the training images and test each.

    Args:
        features: of the training images (n, d).
        targets: of the training images.
        groups: names (n,); a part holds whole groups.
        test_features: of the images to measure on (m, d).
        test_targets: of these.
        fit: fits one head.
        task: what is learnt.
        fractions: of the training images, ascending; the smallest that leave a class without an image are skipped.
        repeats: random orders to draw the parts from.
        seed: of the orders.
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
            logits = fit(features[part], targets[part])(test_features)
            right = task.correct(task.probabilities(logits), test_targets)
            accuracies.setdefault(len(part), []).append(float(right.mean()))
    return [
        LearningPoint(size, float(np.mean(found)), min(found), max(found)) for size, found in sorted(accuracies.items())
    ]


def stratified_order(
    targets: Targets, groups: npt.NDArray[Any], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return a random order of the images (n,) in which every beginning has about each class's share.

    The images of one group follow each other.
    """
    names, first, of_image = np.unique(groups, return_index=True, return_inverse=True)
    shuffled = generator.permutation(len(names))
    place = np.empty(len(names))
    for label in np.unique(targets[first]):
        held = shuffled[targets[first][shuffled] == label]
        place[held] = (np.arange(len(held)) + generator.random()) / len(held)
    return np.asarray(np.lexsort((np.arange(len(targets)), place[of_image])), dtype=np.int64)


def advice(curve: Sequence[LearningPoint]) -> str:
    """Say in one sentence whether more labels would help."""
    if len(curve) < 2:
        return "Too few images to say what more of them would bring."
    last = curve[-1]
    half = min(curve[:-1], key=lambda point: abs(point.images - last.images / 2))
    gain = 100 * (last.accuracy - half.accuracy)
    rates = f"{100 * half.accuracy:.1f} to {100 * last.accuracy:.1f} %"
    told = f"From {half.images:,} to {last.images:,} training images the accuracy went from {rates}"
    if last.accuracy <= half.high:
        return f"{told}, no more than it varies between draws of {half.images:,}: more of the same promise little."
    return f"{told}: still rising by {gain:.1f} points, so labelling more should help."
