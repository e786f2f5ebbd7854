"""What findings say about labels: too few images, a split without any, imbalance, variant spellings."""

from collections.abc import Mapping, Sequence

import pandas as pd

from graft.data.records import SPLITS, Split, printable
from graft.quality.expectations import SMALL_CLASS
from graft.quality.findings import KINDS, Finding, make_finding
from graft.quality.kind import Severity
from graft.runs.params import ValidateDataParams
from graft.stats.confidence_intervals import wilson

NO_TEST = 5
"""A test set of fewer images can hardly show anything."""


def about_classes(
    kind: str,
    labels: Sequence[str],
    classes: pd.DataFrame,
    severity: Severity,
    params: ValidateDataParams,
    task: str = "",
) -> Finding | None:
    """Return a finding about labels; None if there is nothing to tell.

    Args:
        kind: of finding.
        labels: that failed an expectation.
        classes: images per split, by label.
        severity: of the finding.
        params: the section of the step.
        task: its name, if there are several; then the message begins with it.
    """
    about = f"task {task!r}: " if task else ""
    counts = {split: {str(label): int(n) for label, n in classes[split].items()} for split in SPLITS}
    names = [str(label) for label in classes.index]
    if kind == "one_class":
        text = f"only one class ({printable(names[0])}), expected at least two" if names else "no usable images"
        return make_finding(kind, severity, names, about + text)
    if kind == "small_test":
        return _small_test(counts["test"], severity, about)
    if kind == "empty_split":
        empty = [split for split in SPLITS if not any(counts[split].values())]
        return make_finding(kind, severity, empty, f"{about}no images in {' and '.join(empty)}")

    def where(label: str, present: bool) -> str:
        return " and ".join(split for split in SPLITS if bool(counts[split][label]) == present)

    # A label that training never sees is reported once, by its own kind.
    unseen = [label for label in names if not counts["train"][label]]
    if kind == "too_few":
        labels = [label for label in labels if label not in unseen]
        details = [f"{printable(label)!r} has {counts['train'][label]}" for label in labels]
        text = f"expected at least {params.min_per_class} training images per class after the split: {joined(details)}"
    elif kind == "label_not_in_train":
        details = [f"{printable(label)!r} is only in {where(label, True)}" for label in labels]
        text = f"labels that training never sees: {joined(details)}"
    elif kind == "label_not_in_split":
        labels = [label for label in labels if label not in unseen]
        details = [f"{printable(label)!r} is not in {where(label, False)}" for label in labels]
        text = f"labels missing from a split: {joined(details)}{_alone(counts)}"
    elif kind == "imbalance":
        largest = max(counts["train"].values())
        details = [f"{printable(label)!r} has {counts['train'][label]} training images" for label in labels]
        text = f"the largest class has {largest}: {joined(details)}"
    else:
        text = f"{KINDS[kind].title}: {joined([repr(printable(label)) for label in labels])}"
    return make_finding(kind, severity, labels, about + text) if labels else None


def _small_test(counts: Mapping[str, int], severity: Severity, about: str) -> Finding | None:
    """Say how little a test set can show, even if a model answers all of it right."""
    total = sum(counts.values())
    few = {label: number for label, number in counts.items() if 0 < number < SMALL_CLASS}
    if not total:  # an empty split is a finding of its own
        return None
    text = f"{about}{total} test images: if all answers are right, the accuracy is known to be above {_least(total)}"
    if few:
        named = [f"{printable(label)!r} {_least(number)} ({number})" for label, number in few.items()]
        text += f", and the recall of {joined(named)}"
    if total < NO_TEST and severity == "info":
        severity = "warn"
    return make_finding("small_test", severity, list(few), text, count=max(1, len(few)))


def _least(images: int) -> str:
    return f"{wilson(images, images).low:.2f}"


def _alone(counts: Mapping[Split, Mapping[str, int]]) -> str:
    """Say that a split of one class leaves metrics undefined."""
    outside: tuple[Split, ...] = ("val", "test")
    held = {split: [label for label, images in counts[split].items() if images] for split in outside}
    alone = [f"{split} has {printable(labels[0])!r} alone" for split, labels in held.items() if len(labels) == 1]
    if not alone:
        return ""
    return f"; {' and '.join(alone)}: AUROC and average precision are not defined there"


def joined(details: Sequence[str], most: int = 5) -> str:
    """Return the first details as a list in words."""
    return ", ".join(details[:most]) + (f" and {len(details) - most} more" if len(details) > most else "")
