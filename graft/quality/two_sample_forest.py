"""A random forest on a few numbers per image, evaluated out of bag: on the images that each tree was not fitted to.

Out-of-bag votes (Breiman, "Out-of-bag estimation", 1996) need one fit where cross-validation needs several.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestClassifier

from graft.core.cpu import available_cores

Numbers = npt.NDArray[np.float64]
RowReader = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.floating]]
"""From rows, ascending, to their features."""
TREES = 80
# More rows cost time and hardly change the result.
MAX_ROWS = 4000


@dataclass(frozen=True, slots=True)
class Votes:
    """Out-of-bag votes."""

    rows: npt.NDArray[np.int64]
    """The rows that were used, shape (m,)."""
    shares: Numbers
    """Share of the trees that vote for each class, shape (m, classes)."""
    classes: npt.NDArray[np.str_]
    importances: Numbers
    """How much each feature contributed, shape (features,), summing to 1."""


def out_of_bag_votes(
    features: npt.NDArray[np.floating] | RowReader, labels: npt.NDArray[np.str_], seed: int, min_samples_leaf: int = 3
) -> Votes:
    """Fit a random forest and return the votes of its trees on the rows they were not fitted to.

    Args:
        features: shape (n, features), or a function that reads rows of them; NaN is not allowed.
        labels: shape (n,), at least two different ones.
        seed: seed of the choice of rows and of the trees.
        min_samples_leaf: fewest rows in a leaf.
    """
    generator = np.random.default_rng(seed)
    rows = np.arange(len(labels))
    if len(rows) > MAX_ROWS:
        rows = np.sort(generator.choice(rows, MAX_ROWS, replace=False))
    forest = RandomForestClassifier(
        TREES,
        min_samples_leaf=min_samples_leaf,
        class_weight="balanced_subsample",
        oob_score=lambda truth, votes: 0.0,
        random_state=seed,
        n_jobs=available_cores(),
    )
    forest.fit(features(rows) if callable(features) else features[rows], labels[rows])
    return Votes(rows, np.nan_to_num(forest.oob_decision_function_), forest.classes_, forest.feature_importances_)


def auroc(scores: Numbers, positive: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the area under the ROC curve and its standard error (Hanley and McNeil, 1982)."""
    ranks = rankdata(scores)
    hits, misses = int(positive.sum()), int((~positive).sum())
    area = (float(ranks[positive].sum()) - hits * (hits + 1) / 2) / (hits * misses)
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (hits - 1) * (first - area**2) + (misses - 1) * (second - area**2)
    return area, float(np.sqrt(max(spread, 0.0) / (hits * misses)))
