"""What was learnt and what was forgotten: the matrix R and its summaries, all from the answers stored in the exam.

R[i, j] is the accuracy on the test images of experience j after learning experience i. With T experiences:

- accuracy (ACC): mean of the last row;
- backward transfer (BWT): mean over j < T - 1 of R[T-1, j] - R[j, j] (Lopez-Paz and Ranzato, Gradient Episodic
  Memory, NeurIPS 2017);
- forgetting: mean over j < T - 1 of max_i R[i, j] - R[T-1, j] (Chaudhry et al., Riemannian Walk, ECCV 2018, with the
  last row among those of the maximum, so that it is never negative);
- forward transfer (FWT): mean over j > 0 of R[j-1, j] - 1 / classes: what is known of an experience before it is
  learnt, compared with guessing. Of experiences with new classes alone it can only be negative.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.continual.exam import UNASKED, Exam
from graft.heads.protocols import Floats, Ints
from graft.stats.confidence_intervals import UNDEFINED, Interval, percentile_interval, resamples

RESAMPLES = 1000


@dataclass(frozen=True)
class Forgetting:
    """The matrix and its summaries with intervals."""

    matrix: Floats
    """(T, T), NaN where nothing was asked."""
    counts: Ints
    """(T,): test images of each experience."""
    acc: Interval
    bwt: Interval
    forgetting: Interval
    fwt: Interval

    def json(self) -> dict[str, Any]:
        """Return plain JSON; undefined numbers become null."""
        matrix = [[None if np.isnan(value) else round(float(value), 6) for value in row] for row in self.matrix]
        found = {name: getattr(self, name).json() for name in ("acc", "bwt", "forgetting", "fwt")}
        return {"matrix": matrix, "images": self.counts.tolist(), **found}


def accuracy_matrix(exam: Exam, weight: Floats | None = None) -> Floats:
    """Return R, (T, T), or for several resamples (R, T, T); NaN where nothing was asked.

    Args:
        exam: with the answers after T experiences.
        weight: how often each image is drawn, (R, m); None: once.
    """
    times = np.ones((1, len(exam))) if weight is None else weight
    steps = exam.experiences
    asked, right = exam.answers != UNASKED, exam.answers == 1
    found = np.full((len(times), steps, steps), np.nan)
    for j in range(steps):
        here = (exam.experience == j) & exam.test
        total = times[:, here] @ asked[:, here].T.astype(np.float64)
        hits = times[:, here] @ right[:, here].T.astype(np.float64)
        found[:, :, j] = np.divide(hits, total, out=np.full_like(hits, np.nan), where=total > 0)
    return found[0] if weight is None else found


def summaries(matrix: Floats, chances: Floats) -> dict[str, Floats]:
    """Return the four summaries of matrices (..., T, T), each (...,); NaN where they are not defined.

    Args:
        matrix: R.
        chances: accuracy of guessing on each experience, (T,).
    """
    steps = matrix.shape[-1]
    last, own = matrix[..., -1, :], np.diagonal(matrix, axis1=-2, axis2=-1)
    undefined = np.full(matrix.shape[:-2], np.nan)
    if steps < 2:
        return {"acc": last.mean(axis=-1), "bwt": undefined, "forgetting": undefined, "fwt": undefined}
    # Before an experience is learnt, what is known of it is forward transfer: it cannot be forgotten.
    learnt = np.where(np.tril(np.ones((steps, steps), dtype=np.bool_)), matrix, -np.inf)
    best = learnt.max(axis=-2)
    ahead = np.diagonal(matrix, offset=1, axis1=-2, axis2=-1) - chances[1:]
    return {
        "acc": last.mean(axis=-1),
        "bwt": (last - own)[..., :-1].mean(axis=-1),
        "forgetting": (best - last)[..., :-1].mean(axis=-1),
        "fwt": ahead.mean(axis=-1),
    }


def measure_forgetting(exam: Exam, confidence: float = 0.95, count: int = RESAMPLES, seed: int = 0) -> Forgetting:
    """Return the matrix and its summaries, with intervals that resample groups of images within each experience.

    Args:
        exam: with the answers after every experience.
        confidence: of the intervals.
        count: resamples.
        seed: of the resampling.
    """
    tests = exam.tests
    steps, known = tests.experiences, [len(set(tests.names[tests.experience <= j])) for j in range(tests.experiences)]
    chances = np.array([1 / max(classes, 1) for classes in known])
    counts = np.bincount(tests.experience, minlength=steps).astype(np.int64)
    matrix = accuracy_matrix(tests)
    if not len(tests) or not steps:
        return Forgetting(matrix, counts, UNDEFINED, UNDEFINED, UNDEFINED, UNDEFINED)
    values = {name: float(value) for name, value in summaries(matrix, chances).items()}
    drawn = [summaries(accuracy_matrix(tests, weight), chances) for weight in _resamples(tests, count, seed)]
    found = {
        name: percentile_interval(value, np.concatenate([part[name] for part in drawn]), confidence)
        for name, value in values.items()
    }
    return Forgetting(matrix, counts, **found)


def _resamples(tests: Exam, count: int, seed: int) -> Iterator[Floats]:
    """Yield resamples of whole groups within each experience, (R, m) at a time."""
    groups = np.array([f"{j} {group}" for j, group in zip(tests.experience, tests.groups, strict=True)], dtype=object)
    return resamples(groups, tests.experience, count, seed)
