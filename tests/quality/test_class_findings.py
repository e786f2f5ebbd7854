"""Findings about several tasks: one that another determines, images without a label, labels missing from a split."""

import csv
from pathlib import Path

import pandas as pd
import pytest

from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import Validation, validate
from tests.support.two_tasks import write_images

LABELS = {"colour": "single_label", "warm": "single_label", "pattern": "single_label", "marks": "tags"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Validation:
    """Whether a colour is warm follows from it; the pattern has nothing to do with it, and is often unknown."""
    folder = write_images(tmp_path_factory.mktemp("tasks") / "raw", unlabelled=4)
    table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    table["warm"] = (table["colour"] == "red").map({True: "yes", False: "no"})
    table["marks"] = ["dent|rust" if number % 7 == 0 else "dent" if number % 3 else "" for number in range(len(table))]
    # One tag is only in training.
    table.loc[table.index[table["split"] == "train"][:4], "marks"] += "|scratch"
    table["marks"] = table["marks"].str.strip("|")
    table.to_csv(folder / "manifest.csv", index=False, quoting=csv.QUOTE_MINIMAL)
    return validate(folder, ValidateDataParams(labels=LABELS))


def test_a_task_that_another_determines_is_a_warning(found: Validation) -> None:
    (told,) = [one for one in found.findings if one.kind == "association" and "'colour' and 'warm'" in one.message]
    assert told.severity == "warn"
    assert told.message.startswith("association: 'colour' and 'warm' go together: Cramer's V 1.00 (1.00 to 1.00)")
    assert "one determines the other" in told.message
    assert not any("'colour' and 'pattern'" in one.message for one in found.findings)


def test_images_without_a_label_are_counted_by_task(found: Validation) -> None:
    (told,) = [one for one in found.findings if one.kind == "partly_labelled"]
    assert told.message == "partly_labelled: task 'pattern': 30 of 120 images have no label for it"


def test_a_tag_that_is_only_in_training(found: Validation) -> None:
    (told,) = [one for one in found.findings if one.kind == "label_not_in_split"]
    assert told.message.startswith("label_not_in_split: task 'marks': labels missing from a split: 'scratch' is not in")
    assert found.verdict == "warn"


@pytest.mark.slow
def test_splits_keep_every_tasks_rarest_labels_on_both_sides(tmp_path: Path) -> None:
    """The rarest value of the second task has four images, too few for chance alone."""
    for number in range(5):
        folder = write_images(tmp_path / str(number))
        table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False).drop(columns="split")
        table.loc[number * 7 : number * 7 + 3, "pattern"] = "dotted"
        table.to_csv(folder / "manifest.csv", index=False)
        kept = validate(folder, ValidateDataParams(labels=("colour", "pattern"))).inventory.kept
        assert set(kept.loc[kept["pattern"] == "dotted", "split"]) == {"train", "val", "test"}
