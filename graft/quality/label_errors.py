"""Labels that the pictures contradict: confident learning on out-of-fold probabilities, as a queue for review.

Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 2021, with cleanlab.
No label is changed here: a person decides in the queue, and `make relabel` applies the decisions.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from cleanlab.filter import find_label_issues

from graft.core.errors import DataError
from graft.tasks.tags import Tags
from graft.tasks.task import Task


def find_label_errors(
    table: pd.DataFrame, probabilities: npt.NDArray[np.floating], classes: Sequence[str]
) -> pd.DataFrame:
    """Return the suspected label errors, most certain first.

    Args:
        table: n rows with `path` and `label`.
        probabilities: (n, classes), out of fold: each row predicted by a model that was not trained on it.
        classes: the labels of the columns.

    Returns:
        The columns of a review queue (`label_queue.QUEUE_COLUMNS`), and `row`, the position in `table`. `score` is 1
        minus the probability of the current label.

    Raises:
        DataError: if the shapes do not match, a label is not in `classes`, or a probability is not finite.
    """
    if probabilities.shape != (len(table), len(classes)):
        raise DataError(f"probabilities of shape {probabilities.shape}, expected ({len(table)}, {len(classes)})")
    given = pd.Index(list(classes)).get_indexer(pd.Index(table["label"])).astype(np.int64)
    if (given < 0).any():
        raise DataError(
            f"label {table['label'].iloc[int(given.argmin())]!r} is not one of the classes {', '.join(classes)}"
        )
    if not np.isfinite(probabilities).all():
        raise DataError("probabilities that are not finite; train the head again")
    score = label_error_score(given, probabilities)
    suggested = probabilities.argmax(axis=1)
    chosen = np.flatnonzero(_suspected(given, probabilities) & (suggested != given))
    chosen = chosen[np.argsort(-score[chosen], kind="stable")]
    names = np.asarray(classes, dtype=object)
    return pd.DataFrame(
        {
            "path": table["path"].to_numpy()[chosen],
            "label": names[given[chosen]],
            "suggested": names[suggested[chosen]],
            "score": score[chosen].round(4),
            "decision": "",
            "new_label": "",
            "row": chosen,
        }
    )


def suspected_labels(table: pd.DataFrame, probabilities: npt.NDArray[np.floating], task: Task) -> pd.DataFrame | None:
    """Return the suspected label errors of a task, see `find_label_errors`; None for a task that is not checked."""
    if isinstance(task, Tags):
        return find_tag_errors(table, probabilities, task)
    if not task.exclusive:
        return None
    return find_label_errors(table.assign(label=task.names(task.targets(table))), probabilities, task.labels)


def find_tag_errors(table: pd.DataFrame, probabilities: npt.NDArray[np.floating], task: Tags) -> pd.DataFrame:
    """Return the images with a suspected tag, most certain first; see `find_label_errors`.

    Each tag is a yes/no question of its own; what is suggested is the image's tags with the suspected ones changed.

    Args:
        table: n rows with `path` and the column of the task, all labelled.
        probabilities: (n, k), out of fold.
        task: the tags.
    """
    given = task.targets(table) > 0
    suspected = np.zeros_like(given)
    wrong = np.where(given, 1.0 - probabilities, probabilities)
    for tag in range(task.outputs):
        of_two = np.stack([1.0 - probabilities[:, tag], probabilities[:, tag]], axis=1)
        flags = given[:, tag].astype(np.int64)
        suspected[:, tag] = _suspected(flags, of_two) & (wrong[:, tag] > 0.5)
    score = np.where(suspected, wrong, 0.0).max(axis=1, initial=0.0)
    chosen = np.flatnonzero(suspected.any(axis=1))
    chosen = chosen[np.argsort(-score[chosen], kind="stable")]
    better = (given ^ suspected)[chosen].astype(np.float32)
    return pd.DataFrame(
        {
            "path": table["path"].to_numpy()[chosen],
            "label": task.names(given[chosen].astype(np.float32)),
            "suggested": task.names(better),
            "score": score[chosen].round(4),
            "decision": "",
            "new_label": "",
            "row": chosen,
        }
    )


def label_error_score(
    given: npt.NDArray[np.integer], probabilities: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Return 1 minus the probability of each label, (n,); it ranks wrong labels better than margins or entropies here.

    Args:
        given: class index of each row, (n,).
        probabilities: (n, classes), out of fold.
    """
    return 1.0 - np.asarray(probabilities[np.arange(len(given)), given], dtype=np.float64)


def _suspected(given: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    # cleanlab needs an image of every class: drop the classes without one and rescale the rest.
    present = np.unique(given)
    if len(present) < 2:
        return np.zeros(len(given), dtype=np.bool_)
    shares = np.asarray(probabilities[:, present], dtype=np.float64) + 1e-12
    shares /= shares.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        # An only image of a class is never suspected, as it should be: cleanlab warns that it keeps one of each.
        warnings.filterwarnings("ignore", "May not flag all label issues", UserWarning)
        found = find_label_issues(np.searchsorted(present, given), shares, filter_by="prune_by_noise_rate", n_jobs=1)
    return np.asarray(found, dtype=np.bool_)
