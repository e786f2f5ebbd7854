"""The registered kinds of task, by the name that artifacts store."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from graft.core.errors import DataError
from graft.tasks.pixels import PIXEL_KINDS
from graft.tasks.single_label import SingleLabel
from graft.tasks.tags import Tags
from graft.tasks.task import Task

FURTHER = "further_tasks"
"""Field of an artifact's record: the tasks after the first."""

_KINDS: dict[str, type[Task]] = {}


def register(kind: type[Task]) -> type[Task]:
    """Register a class of tasks, so that artifacts made for one can be read; also works as a decorator."""
    name = kind.model_fields["kind"].default
    if not isinstance(name, str):
        raise TypeError(f"{kind.__name__}: the field `kind` needs a default, the name that artifacts store")
    _KINDS[name] = kind
    return kind


for _kind in (SingleLabel, Tags):
    register(_kind)


def check_labels(labels: tuple[str, ...], task: Task) -> None:
    """Check that the labels of an artifact are those of its task, each once.

    Raises:
        ValueError: if they are not.
    """
    if labels != task.labels:
        raise ValueError(f"labels {', '.join(labels)} are not those of the task, {', '.join(task.labels)}")
    if len(set(labels)) < len(labels):
        raise ValueError(f"a label appears twice in {', '.join(labels)}")


def with_task(content: Any, labels_field: str) -> Any:
    """Return the content of an artifact's record with its tasks parsed, for the record's validator."""
    if not isinstance(content, Mapping) or labels_field not in content:
        return content
    labels = tuple(str(label) for label in content[labels_field])
    parsed = {**content, "task": parse_task(content.get("task"), labels)}
    if FURTHER in content:
        parsed[FURTHER] = tuple(parse_task(one, ()) for one in content[FURTHER])
    return parsed


def parse_task(content: Mapping[str, Any] | Task | None, labels: tuple[str, ...]) -> Task:
    """Return the task that an artifact was made for.

    Args:
        content: as its `model_dump` wrote it; None in artifacts older than tasks, which had one label per image.
        labels: the artifact's labels.

    Raises:
        DataError: if its kind is unknown, or a field is invalid.
    """
    if isinstance(content, Task):
        return content
    if content is None:
        return SingleLabel(labels=labels)
    if content.get("kind") in PIXEL_KINDS:
        raise DataError(
            f"this is of task {content['kind']}, and only classifiers can be used here; models of masks are validated, "
            "trained, evaluated, registered, exported and served, and predict folders (docs/segmentation.md)"
        )
    kind = _KINDS.get(str(content.get("kind")))
    if kind is None:
        known = ", ".join(sorted(_KINDS))
        raise DataError(f"task of kind {content.get('kind')!r}: this version of Graft knows {known}")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        raise DataError(f"task {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
