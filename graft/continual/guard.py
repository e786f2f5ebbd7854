"""May an updated model replace the one before it? Only if nothing learnt earlier is lost, by evidence.

On every earlier exam the paired interval of the two models' accuracies must exclude a loss above the tolerance, and the
newest experience must be answered better than by always naming its largest class. Few images give wide intervals: a
model that may have forgotten stays a challenger.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from graft.continual.exam import Exam
from graft.stats.confidence_intervals import Interval, proportion
from graft.stats.model_comparison import paired_rates
from graft.tasks.task import Bools

COMPARISON_ONLY = ("naive",)
"""Methods that exist for comparison and are never promoted."""


class RecallChange(NamedTuple):
    """Recall of one class, or accuracy on one experience, before and after an update, on the same test images."""

    name: str
    images: int
    before: float
    after: float
    change: Interval


def recall_changes(exam: Exam, before: Bools, after: Bools, confidence: float = 0.95) -> list[RecallChange]:
    """Return the recall of every class before and after, with paired intervals over groups of images."""
    return [
        _change(str(label), exam, exam.test & (exam.names == label), before, after, confidence)
        for label in np.unique(exam.names[exam.test])
    ]


def accuracy_changes(
    exam: Exam, experiences: Sequence[str], before: Bools, after: Bools, confidence: float = 0.95
) -> list[RecallChange]:
    """Return the accuracy on the test images of every experience that has any, before and after."""
    found = []
    for number, name in enumerate(experiences):
        rows = exam.test & (exam.experience == number)
        if rows.any():
            found.append(_change(name, exam, rows, before, after, confidence))
    return found


def guard_reasons(
    exam: Exam,
    experiences: Sequence[str],
    before: Bools,
    after: Bools,
    method: str,
    tolerance: float,
    confidence: float = 0.95,
) -> list[str]:
    """Return why the updated model may not replace the one before, one sentence each; empty if it may.

    Args:
        exam: with the images of all experiences, the newest last.
        experiences: names of the experiences.
        before: which images (m,) the model before is right about.
        after: those that the updated model is right about.
        method: that made the head.
        tolerance: largest loss of accuracy on an earlier exam.
        confidence: of the intervals.
    """
    return list(_reasons(exam, experiences, before, after, method, tolerance, confidence))


def _reasons(
    exam: Exam,
    experiences: Sequence[str],
    before: Bools,
    after: Bools,
    method: str,
    tolerance: float,
    confidence: float,
) -> Iterator[str]:
    if method in COMPARISON_ONLY:
        yield f"method {method!r} exists for comparison: it forgets what it does not see"
    changes = {one.name: one for one in accuracy_changes(exam, experiences, before, after, confidence)}
    for name in experiences[:-1]:
        if name not in changes:
            yield f"no test images of {name!r} are kept: nothing shows that it is not forgotten"
            continue
        one = changes[name]
        identical = not (before != after)[exam.test & (exam.experience == experiences.index(name))].any()
        if not identical and one.change.low < -tolerance:
            yield (
                f"accuracy on {name!r} is not shown to be within {tolerance:g} of what it was: {one.before:.3f} to "
                f"{one.after:.3f}, change {one.change.value:+.3f}, interval {one.change.low:+.3f} to "
                f"{one.change.high:+.3f} on {one.images} test images"
            )
    yield from _no_better_than_guessing(exam, experiences, after, confidence)


def _no_better_than_guessing(exam: Exam, experiences: Sequence[str], after: Bools, confidence: float) -> Iterator[str]:
    rows = exam.test & (exam.experience == len(experiences) - 1)
    newest = experiences[-1]
    if not rows.any():
        yield f"{newest!r} has no test images: nothing shows what was learnt"
        return
    labels, counts = np.unique(exam.names[rows], return_counts=True)
    groups = exam.groups[rows]
    if len(labels) == 1:  # always naming the class would be right
        recall = proportion(after[rows], groups, confidence)
        if recall.low <= 0.5:
            yield (
                f"recall of {str(labels[0])!r}, the only class of {newest!r}, is not shown to be above one half: "
                f"{recall.value:.3f}, interval {recall.low:.3f} to {recall.high:.3f}"
            )
        return
    largest = labels[counts.argmax()]
    gain = paired_rates(after[rows], exam.names[rows] == largest, groups, confidence).difference
    if gain.low <= 0:
        yield (
            f"accuracy on {newest!r} is not shown to beat always answering {str(largest)!r}: difference "
            f"{gain.value:+.3f}, interval {gain.low:+.3f} to {gain.high:+.3f}"
        )


def _change(name: str, exam: Exam, rows: Bools, before: Bools, after: Bools, confidence: float) -> RecallChange:
    was, is_now = before[rows], after[rows]
    difference = paired_rates(is_now, was, exam.groups[rows], confidence).difference
    return RecallChange(name, int(rows.sum()), float(was.mean()), float(is_now.mean()), difference)
