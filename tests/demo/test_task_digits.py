"""The demo of several tasks: its manifest asks two questions of every digit."""

from pathlib import Path

from graft.data.listing import list_images
from graft.demo.task_digits import LABELS, write_task_digits
from graft.tasks.columns import task_columns


def test_every_digit_has_two_labels(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    assert write_task_digits(folder)
    found = list_images(folder, tasks=task_columns(LABELS))
    assert len(found.records) == 1500
    assert {(record.label, record.extra["parity"]) for record in found.records} == {
        (str(digit), ("even", "odd")[digit % 2]) for digit in range(10)
    }
    assert sum(record.split == "test" for record in found.records) == 500
    assert not write_task_digits(folder)
