"""A random forest on a few numbers per image, evaluated on images that the trees were not fitted to.

Independent images are evaluated out of bag (Breiman, "Out-of-bag estimation", 1996), which needs one fit. Images of one
group (a video, a patient) resemble each other: a tree that was fitted to one frame knows the next one. So grouped
images are cross-validated, with every group in one fold.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier

from graft.core.cpu import available_cores

Numbers = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
RowReader = Callable[[Ints], npt.NDArray[np.floating]]
"""From rows, ascending, to their features."""
TREES = 80
FOLDS = 5
# More rows cost time and hardly change the result.
MAX_ROWS = 4000


@dataclass(frozen=True, slots=True)
class Votes:
    """Votes on images by trees that were not fitted to them, nor to another image of their group."""

    rows: Ints
    """The rows that were used, shape (m,)."""
    shares: Numbers
    """Share of the trees that vote for each class, shape (m, classes)."""
    classes: npt.NDArray[np.str_]
    importances: Numbers
    """How much each feature contributed, shape (features,), summing to 1."""


def held_out_votes(
    features: npt.NDArray[np.floating] | RowReader,
    labels: npt.NDArray[np.str_],
    groups: npt.NDArray[Any],
    seed: int,
    min_samples_leaf: int = 3,
) -> Votes:
    """Fit random forests and return the votes of their trees on rows of groups that they were not fitted to.

    Args:
        features: shape (n, features), or a function that reads rows of them; NaN is not allowed.
        labels: shape (n,), at least two different ones, each of at least two groups.
        groups: name of each row's group, shape (n,).
        seed: seed of the choice of rows, of the folds and of the trees.
        min_samples_leaf: fewest rows in a leaf.
    """
    rows = _sample(labels, seed)
    inputs, labels, groups = features(rows) if callable(features) else features[rows], labels[rows], groups[rows]
    forest = RandomForestClassifier(
        TREES, min_samples_leaf=min_samples_leaf, class_weight="balanced_subsample", random_state=seed
    ).set_params(n_jobs=available_cores())
    if len(np.unique(groups)) == len(groups):
        forest.set_params(oob_score=lambda truth, votes: 0.0).fit(inputs, labels)
        return Votes(rows, np.nan_to_num(forest.oob_decision_function_), forest.classes_, forest.feature_importances_)
    classes = np.unique(labels)
    shares, importances = np.zeros((len(rows), len(classes))), np.zeros(inputs.shape[1])
    for train, held_out in _folds(labels, groups, seed):
        forest.fit(inputs[train], labels[train])
        shares[np.ix_(held_out, np.searchsorted(classes, forest.classes_))] = forest.predict_proba(inputs[held_out])
        importances += forest.feature_importances_
    return Votes(rows, shares, classes, importances / max(importances.sum(), np.finfo(float).tiny))


def _sample(labels: npt.NDArray[np.str_], seed: int) -> Ints:
    """Return at most `MAX_ROWS` rows, ascending: as many of each label as there are, up to an equal share."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    if len(labels) <= MAX_ROWS:
        return np.sort(shuffled)
    _, of_row = np.unique(labels[shuffled], return_inverse=True)
    by_label = np.argsort(of_row, kind="stable")
    sizes = np.bincount(of_row)
    rank = np.empty(len(labels), np.int64)
    rank[by_label] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(shuffled[np.argsort(rank, kind="stable")[:MAX_ROWS]])


def _folds(labels: npt.NDArray[np.str_], groups: npt.NDArray[Any], seed: int) -> Iterator[tuple[Ints, Ints]]:
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    splitter = StratifiedGroupKFold(max(2, min(FOLDS, fewest)), shuffle=True, random_state=seed)
    yield from splitter.split(labels, labels, groups)
