"""Findings about labels, of one task and of several on the same images.

Too few images, a split without any, imbalance, variant spellings; and how far the labels of one task give those of
another away.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from graft.data.records import SPLITS, Split, printable
from graft.params.validate_data import ValidateDataParams
from graft.quality.expectations import SMALL_CLASS, judge
from graft.quality.findings import KINDS, Finding, make_finding
from graft.quality.inventory import Inventory
from graft.quality.kind import Severity
from graft.stats.association import Association, cramers_v
from graft.stats.confidence_intervals import wilson
from graft.tasks.columns import TaskColumn

WORTH_TELLING = 0.3
"""Lower bound of Cramer's V from which on an association is told."""
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
        text = f"{about}no images in {' and '.join(empty)}"
        if empty == ["val"] and params.val_fraction > 0:
            return _no_validation(text, severity, params)
        return make_finding(kind, severity, empty, text)

    def where(label: str, present: bool) -> str:
        return " and ".join(split for split in SPLITS if bool(counts[split][label]) == present)

    more: dict[str, str] = {}
    # A label that training never sees is reported once, by its own kind.
    unseen = [label for label in names if not counts["train"][label]]
    if kind == "too_few":
        labels = [label for label in labels if label not in unseen]
        details = [f"{printable(label)!r} has {counts['train'][label]}" for label in labels]
        text = f"expected at least {params.min_per_class} training images per class after the split: {joined(details)}"
        least = min((counts["train"][label] for label in labels), default=0)
        more["remedy"] = f"add images, merge or remove the class, or set validate_data.min_per_class={least}"
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
    return make_finding(kind, severity, labels, about + text, **more) if labels else None


def _no_validation(text: str, severity: Severity, params: ValidateDataParams) -> Finding:
    """Say what is missing if no class has an image to spare; a run goes on without, unless somebody objects."""
    if severity == "fail" and "empty_split" not in params.severity:
        severity = "warn"
    text += ": no class has one to spare; the model will have no prediction sets and never abstain"
    return make_finding("empty_split", severity, ["val"], text, remedy="add images: three of a class fill the splits")


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


def findings_of_tasks(inventory: Inventory, params: ValidateDataParams) -> list[Finding]:
    """Return what there is to say about the tasks after the first, and about all of them together."""
    found = [finding for task in inventory.tasks[1:] for finding in _about(task, inventory, params)]
    return [*found, *_coverage(inventory, params), *_associations(inventory, params)]


def _about(task: TaskColumn, inventory: Inventory, params: ValidateDataParams) -> Iterator[Finding]:
    classes = inventory.classes_of(task)
    merged: dict[str, list[str]] = {}
    for unmet in judge({"classes": classes}, params).unmet:
        merged.setdefault(unmet.kind, []).extend(unmet.rows)
    if task.has_tags and len(classes):
        merged.pop("one_class", None)
    for kind, rows in merged.items():
        severity = _severity(kind, params)
        labels = list(dict.fromkeys(rows))
        finding = about_classes(kind, labels, classes.set_index("label"), severity, params, task.name)
        if finding is not None and finding.severity != "ignore":
            yield finding


def _coverage(inventory: Inventory, params: ValidateDataParams) -> Iterator[Finding]:
    kept, severity = inventory.kept, _severity("partly_labelled", params)
    for task in inventory.tasks:
        empty = kept.loc[[not task.is_labelled(cell) for cell in kept[task.column]], "path"].tolist()
        if empty and severity != "ignore":
            text = f"task {task.name!r}: {len(empty):,} of {len(kept):,} images have no label for it"
            yield make_finding("partly_labelled", severity, empty, text)


def _associations(inventory: Inventory, params: ValidateDataParams) -> Iterator[Finding]:
    asked = _severity("association", params)
    for first, second in combinations(inventory.tasks, 2):
        found = associated(inventory.kept, first, second, params.seed)
        if found is None or found.interval.low < WORTH_TELLING or asked == "ignore":
            continue
        v, low, high = found.interval
        text = f"{first.name!r} and {second.name!r} go together: Cramer's V {v:.2f} ({low:.2f} to {high:.2f})"
        if found.determined:
            severity = params.severity.get("association", "warn")
            text += "; one determines the other, so a model need not look at the image for both"
        else:
            severity = asked
        yield make_finding("association", severity, (), text, count=1)


def associated(kept: pd.DataFrame, first: TaskColumn, second: TaskColumn, seed: int) -> Association | None:
    """Return how far two tasks go together, on images with a label for both; None if there are none.

    Of tags, every combination that occurs counts as a value.
    """
    labelled = [[task.is_labelled(cell) for cell in kept[task.column]] for task in (first, second)]
    both = kept[np.all(labelled, axis=0)]
    if not len(both):
        return None
    codes = [np.unique(both[task.column].to_numpy(dtype=str), return_inverse=True)[1] for task in (first, second)]
    return cramers_v(codes[0], codes[1], both["group"].to_numpy(), seed=seed)


def _severity(kind: str, params: ValidateDataParams) -> Severity:
    return params.severity.get(kind, KINDS[kind].severity)
