"""The learning curve: how accuracy grows with the number of training images, and whether to label more.

Cheap, because only heads are fitted, on cached features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from graft.stats.confidence_intervals import Interval
from graft.stats.metrics import Floats, Targets
from graft.tasks.task import Bools, Task

Predict = Callable[[Floats], Floats]
"""Maps features (m, d) to logits (m, C)."""
Fit = Callable[[Floats, Targets], Predict]
"""Fits one head to training features (n, d) and targets (n,)."""
Learner = Callable[[Floats, Targets, npt.NDArray[Any]], Fit]
"""Chooses the penalty for this many images, from features, targets and groups, and returns how to fit with it."""

FRACTIONS = (0.1, 0.2, 0.4, 0.7, 1.0)
REPEATS = 3
RESAMPLES = 500
WORTHWHILE = 0.01
"""Gain in accuracy by twice as many images from which on labelling more is recommended."""
_EXPONENTS = np.arange(0.1, 1.55, 0.1)
"""Of the power laws that are fitted."""
_LEVEL = 0.99
"""Of the bootstrap behind an interval of 95 %. A fit whose floor and slope cannot be negative scatters less around an
estimate than around the truth: a bootstrap of 95 % held it in 88 to 92 % of simulations, this one in 95 to 99 %."""


class LearningPoint(NamedTuple):
    """Accuracy with this number of training images."""

    images: int
    accuracy: float
    """Mean over the draws."""
    low: float
    high: float
    """Lowest and highest of the draws."""


@dataclass(frozen=True)
class SizeResult:
    """Heads of one number of training images on the test images."""

    images: int
    right: Bools
    """(draws, m), which test images the head of each draw gets right."""

    @property
    def point(self) -> LearningPoint:
        """The accuracy."""
        of_draw = self.right.mean(axis=1)
        return LearningPoint(self.images, float(of_draw.mean()), float(of_draw.min()), float(of_draw.max()))


def learning_curve(
    features: Floats,
    targets: Targets,
    groups: npt.NDArray[Any],
    test_features: Floats,
    test_targets: Targets,
    learner: Learner,
    task: Task,
    *,
    fractions: Sequence[float] = FRACTIONS,
    repeats: int = REPEATS,
    seed: int = 0,
    whole: Floats | None = None,
) -> list[SizeResult]:
    """Fit heads on nested random subsets of the training images and test each; smallest subsets first.

    Args:
        features: of the training images (n, d).
        targets: of the training images.
        groups: names (n,); a subset keeps groups together.
        test_features: of the test images (m, d).
        test_targets: of the test images.
        learner: chooses the penalty for each size, on the first draw.
        task: what is learnt.
        fractions: of the training images, ascending; those that leave a class without images are skipped.
        repeats: number of random orders to draw the subsets from.
        seed: of the orders.
        whole: the logits (m, C) of a head that was fitted to all training images; None: it is fitted here.
    """
    right: dict[float, list[Bools]] = {}
    fits: dict[float, Fit] = {}
    strata = task.strata(targets)
    for repeat in range(repeats):
        order = stratified_order(strata, groups, np.random.default_rng((seed, repeat)))
        for fraction in fractions:
            part = order[: max(1, round(fraction * len(order)))]
            if len(np.unique(strata[part])) < len(np.unique(strata)) or (fraction == 1.0 and repeat):
                continue
            if whole is not None and fraction == 1.0:
                logits = whole
            else:
                if fraction not in fits:
                    fits[fraction] = learner(features[part], targets[part], groups[part])
                logits = fits[fraction](features[part], targets[part])(test_features)
            right.setdefault(fraction, []).append(task.correct(task.probabilities(logits), test_targets))
    return [
        SizeResult(max(1, round(fraction * len(targets))), np.stack(found)) for fraction, found in sorted(right.items())
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


def gain_of_doubling(curve: Sequence[SizeResult], test_groups: npt.NDArray[Any], seed: int = 0) -> Interval | None:
    """Return the gain in accuracy by twice as many training images, with a 95 % interval; None below three sizes.

    The error is taken to fall by a power law towards a floor, `a + b * n^-c` (Hestness et al. 2017), fitted by least
    squares. The interval is a bootstrap's over the groups of test images and over the draws of training images.

    Args:
        curve: smallest size first.
        test_groups: names, (m,), of the test images.
        seed: of the bootstrap.
    """
    if len(curve) < 3:
        return None
    sizes = np.array([size.images for size in curve], dtype=np.float64)
    _, of_image = np.unique(test_groups, return_inverse=True)
    counts = np.bincount(of_image)
    # Per draw and group of test images, the number of errors: (draws, groups).
    wrong = [np.stack([np.bincount(of_image, weights=~draw) for draw in size.right]) for size in curve]
    errors = np.array([found.sum(axis=1).mean() for found in wrong]) / counts.sum()
    value = float(_gain(sizes, errors[None])[0])
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES).astype(np.float64)
    # A handful of draws tell little about their scatter: it is taken from all sizes together, relative to the error.
    repeated = [found.sum(axis=1) for found in wrong if len(found) > 1]
    scatter = np.sqrt(np.mean([found.var(ddof=1) / max(found.mean(), 1.0) ** 2 for found in repeated] or [0.0]))
    drawn = np.empty((RESAMPLES, len(curve)))
    for position, found in enumerate(wrong):
        of_sample = (weights @ found.mean(axis=0)) / (weights @ counts)
        noise = generator.normal(0, scatter / np.sqrt(len(found)), RESAMPLES)
        drawn[:, position] = of_sample + errors[position] * noise
    low, high = np.quantile(_gain(sizes, drawn), ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _gain(sizes: Floats, errors: Floats) -> Floats:
    """Return the fall in error from the largest size to twice that, (k,), by the best power law of each row (k, s)."""
    least, gain = np.full(len(errors), np.inf), np.zeros(len(errors))
    relative = sizes / sizes[-1]
    for exponent in _EXPONENTS:
        falling = relative**-exponent
        centred = falling - falling.mean()
        slope = np.maximum((errors - errors.mean(axis=1, keepdims=True)) @ centred / (centred @ centred), 0.0)
        # A floor below zero is impossible: then the law passes through zero.
        floor = errors.mean(axis=1) - slope * falling.mean()
        through_zero = errors @ falling / (falling @ falling)
        slope = np.where(floor < 0, through_zero, slope)
        floor = np.maximum(floor, 0.0)
        missed = ((errors - floor[:, None] - slope[:, None] * falling) ** 2).sum(axis=1)
        better = missed < least
        least = np.where(better, missed, least)
        gain = np.where(better, slope * (1 - 2.0**-exponent), gain)
    return gain


def advice(curve: Sequence[SizeResult], test_groups: npt.NDArray[Any], seed: int = 0) -> str:
    """Return one or two sentences on whether more labels would help; they may say that the data cannot tell."""
    gain = gain_of_doubling(curve, test_groups, seed)
    if gain is None:
        return "Too few images to say whether more of them would help."
    first, last = curve[0].point, curve[-1].point
    growth = (
        f"From {first.images:,} to {last.images:,} training images the accuracy went from {100 * first.accuracy:.1f} "
        f"to {100 * last.accuracy:.1f} %"
    )
    forecast = f"{100 * gain.value:.1f} points (95 % interval {100 * gain.low:.1f} to {100 * gain.high:.1f})"
    if gain.low >= WORTHWHILE:
        return f"{growth}. Twice as many should gain {forecast}: label more."
    if gain.high <= WORTHWHILE:
        return f"{growth}. Twice as many should gain {forecast}: more of the same would help little."
    return f"{growth}. Twice as many should gain {forecast}: this data cannot tell whether more images would help."
