"""Columns of a user's table as tasks: which ones were asked for, and whether their values can be learnt."""

import difflib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graft.core.errors import DataError, ParamsError
from graft.core.text_forms import one_form
from graft.tasks.tag_cells import UNKNOWN, all_tags, listed_labels, split_tags

if TYPE_CHECKING:
    from graft.tasks.task import Task

LABEL = "label"
"""The column of the dataset that has the first task's values; also that task's name, unless the user has another."""
RESERVED = ("path", "split", "group")
"""Columns that say where an image is, what it is for, and what it belongs to."""
MOST_NUMBERS = 20
"""A column of numbers with more values is a quantity, unless these are whole and each is of many images: then they are
the codes of classes."""
FEWEST_OF_A_CODE = 10
"""Images per value, on average."""
MOST_DISTINCT = 0.5
"""A column whose values are different for more images than this share names each image."""
FEWEST_ROWS = 20
"""With fewer rows, the share of distinct values says nothing."""
KINDS = ("single_label", "tags")
"""The kinds of task that a column can be."""
COLUMNS_OF_ANSWERS = ("label", "confidence", "tags", "set", "abstain", "ood")
"""Names that follow a task's name in the columns of its answers, see `prediction_table`."""


@dataclass(frozen=True)
class TaskColumn:
    """A column that is a task."""

    name: str
    """The user's name, and the task's."""
    kind: str = "single_label"
    column: str = LABEL
    """Its name in the dataset's table."""

    @property
    def has_tags(self) -> bool:
        """Whether its cells hold any number of labels."""
        return self.kind == "tags"

    def labels(self, cell: str) -> tuple[str, ...]:
        """Return the labels in a cell."""
        if self.has_tags:
            return split_tags(cell) if cell != UNKNOWN else ()
        return (cell,) if cell else ()

    def is_labelled(self, cell: str) -> bool:
        """Return whether a cell says anything for the task."""
        return cell != UNKNOWN if self.has_tags else bool(cell)

    def plain(self, cell: str, where: str) -> str:
        """Return a cell in one form: labels in Unicode's composed form, those of tags sorted and once each.

        Args:
            cell: of the user's table.
            where: it is, for the message.

        Raises:
            DataError: if there is nothing between two bars.
        """
        several = listed_labels(cell)
        if several is not None:  # a list of JSON or Python, as data frames write it
            cell = "|".join(several)
            if not self.has_tags:
                raise DataError(
                    f"{where}: {self.name} is a list of {len(several)}; write one label, or learn them as tags with "
                    f"validate_data.labels={{{self.name}: tags}}"
                )
        if not self.has_tags:
            return one_form(cell) if cell.strip() else ""
        if cell.strip() == UNKNOWN:
            return UNKNOWN
        parts = split_tags(one_form(cell))
        if not all(parts):
            raise DataError(f"{where}: {self.name} {cell!r} has an empty label between bars; write one|other")
        return "|".join(sorted(set(parts)))

    def task(self, cells: Sequence[str]) -> "Task":
        """Return the task that these values define.

        Raises:
            DataError: if they cannot be learnt as labels.
        """
        # late: tables are read where nothing is learnt, and these classes bring SciPy
        from graft.tasks.single_label import SingleLabel
        from graft.tasks.tags import Tags

        name = self.name
        if self.has_tags:
            labels = all_tags(cells)
            if not labels:
                raise DataError(f"{name}: no row has a tag; write them with | between, such as scratch|dent")
            return Tags(name=name, labels=tuple(labels), column=self.column)
        held = [cell for cell in cells if cell]
        return SingleLabel(name=name, labels=tuple(sorted(set(held))), column=self.column)

    def check(self, cells: Sequence[str]) -> None:
        """Refuse values that are no labels: quantities, and names of single images.

        Raises:
            DataError: saying what they look like.
        """
        held = [cell for cell in cells if self.is_labelled(cell) and cell]
        counts = Counter(label for cell in held for label in self.labels(cell))
        if not held:
            raise DataError(f"{self.name}: every cell of the column is empty, so there is nothing to learn")
        if len(counts) > MOST_NUMBERS and all(map(_is_number, counts)) and not _are_codes(counts):
            raise DataError(
                f"{self.name}: {len(counts):,} different numbers: it looks like a quantity; regression is not "
                "supported. Put ranges in its place, such as small, medium and large"
            )
        if len(held) >= FEWEST_ROWS and len(counts) > MOST_DISTINCT * len(held):
            raise DataError(
                f"{self.name}: {len(counts):,} different values in {len(held):,} rows: it looks like an id; "
                "regression is not supported, and a label needs several images"
            )


Asked = Sequence[str] | Mapping[str, str]


def task_columns(asked: Asked) -> tuple[TaskColumn, ...]:
    """Return the columns of `validate_data.labels`, the first one as the dataset's column `label`.

    Raises:
        ParamsError: if there is none, one appears twice, or its kind is unknown.
    """
    kinds = dict(asked) if isinstance(asked, Mapping) else dict.fromkeys(asked, "single_label")
    names = list(asked)
    if not names:
        raise ParamsError("validate_data.labels: no column; expected at least one, such as [label]")
    for name, number in Counter(name.lower() for name in names).items():
        if number > 1:
            raise ParamsError(f"validate_data.labels: {name!r} appears {number} times; each column is one task")
    for name in names:
        if name.lower() in RESERVED:
            raise ParamsError(f"validate_data.labels: the column {name!r} cannot be learnt: it describes the image")
        if not _is_plain(name):
            raise ParamsError(
                f"validate_data.labels: {name!r} cannot name a task: expected letters, digits, blanks, - and _"
            )
        if kinds[name] not in KINDS:
            raise ParamsError(f"validate_data.labels.{name}={kinds[name]!r}: expected {' or '.join(KINDS)}")
    return tuple(TaskColumn(name, kinds[name], name if place else LABEL) for place, name in enumerate(names))


def column_of(task: "Task") -> str:
    """Return the column of the dataset that has a task's values."""
    return str(getattr(task, "column", LABEL))


def nearest(name: str, columns: Collection[str]) -> str:
    """Return a clause about the columns that exist, the nearest ones first if a name is nearly right."""
    close = difflib.get_close_matches(name, list(columns), n=2, cutoff=0.6)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"found: {', '.join(columns)}"


def check_answers(tasks: "Sequence[Task]") -> None:
    """Refuse labels that would give two answers one name.

    Raises:
        DataError: naming both.
    """
    if len(tasks) < 2:
        return
    owner: dict[str, str] = {}
    for task in tasks:
        for column in COLUMNS_OF_ANSWERS:
            owner[f"{task.name}.{column}"] = f"the {column} of task {task.name!r}"
    for task in tasks:
        for label in task.labels:
            column, own = f"{task.name}.{label}", f"the label {label!r} of task {task.name!r}"
            if column in owner:
                raise DataError(f"{own} and {owner[column]} would both be the column {column!r} of answers; rename it")
            owner[column] = own


def _is_plain(name: str) -> bool:
    return bool(name.strip()) and name == name.strip() and all(one.isalnum() or one in " _-" for one in name)


def _are_codes(counts: Mapping[str, int]) -> bool:
    whole = all(text.strip().lstrip("+-").isdigit() for text in counts)
    return whole and sum(counts.values()) >= FEWEST_OF_A_CODE * len(counts)


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
