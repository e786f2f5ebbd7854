"""Which columns of a table can be learnt, and what is said of those that cannot."""

import pytest

from graft.core.errors import DataError, ParamsError
from graft.tasks.columns import TaskColumn, check_answers, task_columns
from graft.tasks.single_label import SingleLabel
from graft.tasks.tags import Tags

LABEL = TaskColumn("colour")
TAGS = TaskColumn("defects", "tags")


def test_the_first_task_is_the_column_label_of_the_dataset() -> None:
    assert [task.column for task in task_columns(("colour", "shape"))] == ["label", "shape"]
    kinds = task_columns({"colour": "single_label", "defects": "tags"})
    assert [task.has_tags for task in kinds] == [False, True]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ((), "no column"),
        (("colour", "Colour"), "'colour' appears 2 times"),
        (("path",), "describes the image"),
        (("../up",), "cannot name a task"),
    ],
)
def test_what_cannot_be_asked(asked: tuple[str, ...], text: str) -> None:
    with pytest.raises(ParamsError, match=text):
        task_columns(asked)


def test_quantities_and_ids_are_refused() -> None:
    with pytest.raises(DataError, match=r"colour: 60 different numbers: .* regression is not supported"):
        LABEL.check([f"{number / 7:.3f}" for number in range(60)])
    with pytest.raises(DataError, match="colour: 40 different values in 40 rows: it looks like an id"):
        LABEL.check([f"image-{number}" for number in range(40)])
    with pytest.raises(DataError, match="every cell of the column is empty"):
        LABEL.check(["", ""])


def test_digits_and_codes_of_classes_are_labels() -> None:
    LABEL.check([str(number % 10) for number in range(100)])
    LABEL.check([str(number % 100) for number in range(2000)])


def test_tags_are_brought_into_one_form() -> None:
    assert TAGS.plain(" scratch | dent|scratch ", "line 2") == "dent|scratch"
    assert TAGS.plain("", "line 2") == ""
    assert TAGS.is_labelled("")
    assert not TAGS.is_labelled(TAGS.plain(" ? ", "line 2"))
    with pytest.raises(DataError, match=r"line 2: defects 'a\|\|b' has an empty label between bars"):
        TAGS.plain("a||b", "line 2")


def test_a_column_without_any_tag_is_refused() -> None:
    with pytest.raises(DataError, match="defects: no row has a tag"):
        TAGS.task(["", "?"])


def test_labels_that_would_share_a_column_of_the_answers() -> None:
    first = SingleLabel(name="colour", labels=("red", "label"))
    with pytest.raises(DataError, match=r"'label' of task 'colour' .* both be the column 'colour.label'"):
        check_answers([first, Tags(name="defects", labels=("dent",))])
    check_answers([first])
    check_answers([SingleLabel(name="a", labels=("x", "y")), SingleLabel(name="b", labels=("x", "y"))])
