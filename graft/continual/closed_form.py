"""Heads that follow from class statistics alone: linear discriminants and ridge regression, for every penalty at once.

- `lda`: linear discriminant analysis with the shared covariance shrunk towards its diagonal. From statistics that grow
  image by image it is streaming LDA (Hayes and Kanan, Lifelong Machine Learning with Deep Streaming Linear Discriminant
  Analysis, CVPR Workshops 2020).
- `ridge`: ridge regression to the classes' indicators, accumulated exactly (Zhuang et al., ACIL: Analytic
  Class-Incremental Learning, NeurIPS 2022).

Both depend on the statistics only, so on neither the order nor the number of updates. How strongly to shrink decides
more than anything else and must come from held-out images: a fixed value can cost more than forgetting does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graft.continual.class_statistics import ClassStatistics
from graft.heads.lbfgs import floor_spread
from graft.heads.linear_probe import Linear
from graft.heads.protocols import Floats

ClosedForm = Literal["lda", "ridge"]
SHRINKAGES = (0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.003, 0.001, 0.0001)
"""Of the covariance towards its diagonal, from strong to weak."""
RIDGES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Penalties relative to the mean eigenvalue, from strong to weak."""
RIDGE_LOGITS = 10.0
"""Scores of a ridge regression lie between 0 and 1: times this they are logits of the usual size, and the temperature
does the rest."""


@dataclass(frozen=True)
class Solution:
    """One decomposition of the statistics, from which the head follows for every penalty."""

    labels: tuple[str, ...]
    mean: Floats
    """(D,), of all images."""
    scale: Floats
    """(D,), standard deviations with a floor."""
    basis: Floats
    """(D, D), eigenvectors of the standardised covariance."""
    spectrum: Floats
    """(D,), its eigenvalues."""
    head: Callable[["Solution", float], Linear]

    def at(self, penalty: float) -> Linear:
        """Return the head at one penalty."""
        return self.head(self, penalty)


def solve(method: ClosedForm, statistics: ClassStatistics, widths: Sequence[int] | None = None) -> Solution:
    """Decompose the statistics for one kind of head.

    Args:
        method: the kind.
        statistics: of the images to learn.
        widths: number of features of each tap, where several are concatenated.
    """
    return _SOLVERS[method](statistics, widths)


def _decomposed(
    statistics: ClassStatistics,
    covariance: Floats,
    widths: Sequence[int] | None,
    head: Callable[[Solution, float], Linear],
) -> Solution:
    scale = floor_spread(np.sqrt(np.maximum(np.diagonal(covariance), 0.0)), widths)
    values, basis = np.linalg.eigh(covariance / scale / scale[:, None])
    return Solution(statistics.labels, statistics.mean, scale, basis, np.maximum(values, 0.0), head)


def _lda(statistics: ClassStatistics, widths: Sequence[int] | None) -> Solution:
    def head(found: Solution, shrinkage: float) -> Linear:
        along = statistics.between / found.scale @ found.basis
        slopes = along / ((1 - shrinkage) * found.spectrum + shrinkage)
        prior = np.log(statistics.counts / statistics.images)
        return _linear(found, slopes, prior - (slopes * along).sum(axis=1) / 2)

    return _decomposed(statistics, statistics.scatter / statistics.images, widths, head)


def _ridge(statistics: ClassStatistics, widths: Sequence[int] | None) -> Solution:
    def head(found: Solution, penalty: float) -> Linear:
        shares = statistics.counts / statistics.images
        along = shares[:, None] * statistics.between / found.scale @ found.basis
        slopes = along / (found.spectrum + penalty * found.spectrum.mean())
        return _linear(found, RIDGE_LOGITS * slopes, RIDGE_LOGITS * shares)

    return _decomposed(statistics, statistics.total_scatter / statistics.images, widths, head)


def _linear(found: Solution, slopes: Floats, biases: Floats) -> Linear:
    """Return the head of slopes (C, D) along the basis and biases (C,), both of centred features."""
    weight = slopes @ found.basis.T / found.scale
    return Linear(weight, biases - weight @ found.mean, mean=found.mean, scale=found.scale)


_SOLVERS: Mapping[ClosedForm, Callable[[ClassStatistics, Sequence[int] | None], Solution]] = {
    "lda": _lda,
    "ridge": _ridge,
}
PENALTIES: Mapping[ClosedForm, tuple[float, ...]] = {"lda": SHRINKAGES, "ridge": RIDGES}
"""Those to try for each kind."""
