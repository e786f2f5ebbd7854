"""Findings about several tasks of the same images: the labels of each, and how far one gives another away."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from graft.quality.class_findings import about_classes
from graft.quality.expectations import judge
from graft.quality.findings import KINDS, Finding, make_finding
from graft.quality.inventory import Inventory
from graft.quality.kind import Severity
from graft.runs.params import ValidateDataParams
from graft.stats.association import Association, cramers_v
from graft.tasks.columns import TaskColumn

WORTH_TELLING = 0.3
"""Lower bound of Cramer's V from which on an association is told."""


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
