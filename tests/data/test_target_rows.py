"""Rows with split=target: the only ones without a label, and no part of what is learnt."""

from dataclasses import replace
from pathlib import Path

import pytest

from graft.core.errors import DataError, ParamsError
from graft.data.dataset import ImageDataset
from graft.data.listing import list_images
from graft.data.target_rows import has_targets, read_targets, write_targets
from graft.tasks.columns import task_columns
from graft.tasks.single_label import SingleLabel
from tests.support.pictures import picture
from tests.support.tiny import small_dataset

ROWS = [
    ("a.png", "ant", "", ""),
    ("b.png", "bee", "", ""),
    ("n0.png", "", "target", "night"),
    ("n1.png", "bee", "Target", "night"),
    ("s0.png", "", "target", ""),
]


def manifest(folder: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, (path, *_) in enumerate(rows):
        picture(number % 2, number).save(folder / path)
    lines = ["path,label,split,domain", *(",".join(row) for row in rows)]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> ImageDataset:
    return small_dataset(tmp_path / "dataset")


def test_they_are_listed_apart_and_alone_may_have_no_label(tmp_path: Path) -> None:
    found = list_images(manifest(tmp_path / "raw", ROWS))
    assert [record.path for record in found.records] == ["a.png", "b.png"]
    assert [(record.path, record.label, record.domain) for record in found.targets] == [
        ("n0.png", "", "night"),
        ("n1.png", "bee", "night"),
        ("s0.png", "", ""),
    ]
    with pytest.raises(DataError, match=r"manifest\.csv line 3: label is empty"):
        list_images(manifest(tmp_path / "bad", [ROWS[0], ("b.png", "", "train", "night")]))
    with pytest.raises(DataError, match="every row has split 'target'; a model is learnt from others"):
        list_images(manifest(tmp_path / "none", ROWS[2:]))


def test_they_lie_in_a_dataset_of_their_own(tmp_path: Path, dataset: ImageDataset) -> None:
    raw = manifest(tmp_path / "raw", ROWS)
    before = dataset.table.copy()
    assert not has_targets(dataset.path)
    assert read_targets(dataset.path, "night") == []
    write_targets(list_images(raw).targets, dataset)
    again = ImageDataset.read(dataset.path)
    assert again.table.equals(before)
    assert again.spec == dataset.spec
    night, other = read_targets(dataset.path)
    assert (night.name, other.name) == ("night", "target")
    assert [night.images.image(row) for row in night.rows] == [(raw / f"n{n}.png").read_bytes() for n in (0, 1)]
    assert night.images.targets()[list(night.rows)].tolist() == [-1, 1]
    assert [domain.name for domain in read_targets(dataset.path, "night")] == ["night"]
    with pytest.raises(ParamsError, match=r"adapt\.domain=nigth: no row .* has this domain; did you mean 'night'"):
        read_targets(dataset.path, "nigth")


def test_bad_rows_are_one_clear_line(tmp_path: Path, dataset: ImageDataset) -> None:
    for number, (rows, line) in enumerate(
        [
            ([*ROWS, ("x.png", "bea", "target", "night")], "'bea' of split=target is no label .* did you mean 'bee'"),
            ([*ROWS[:2], ROWS[3]], "domain 'night': every row with split=target has a label"),
        ]
    ):
        listed = list_images(manifest(tmp_path / str(number), rows))
        with pytest.raises(DataError, match=line):
            write_targets(listed.targets, dataset)
        assert not has_targets(dataset.path)
    listed = list_images(manifest(tmp_path / "gone", ROWS))
    (tmp_path / "gone" / "n0.png").unlink()
    with pytest.raises(DataError, match=r"n0\.png: "):
        write_targets(listed.targets, dataset)


def test_only_one_label_for_each_image_can_be_adapted(tmp_path: Path, dataset: ImageDataset) -> None:
    raw = manifest(tmp_path / "raw", ROWS)
    text = (raw / "manifest.csv").read_text().splitlines()
    (raw / "manifest.csv").write_text("\n".join([text[0] + ",size", *(f"{line},big" for line in text[1:])]) + "\n")
    targets = list_images(raw, tasks=task_columns(["label", "size"])).targets
    assert [record.label for record in targets] == ["", "bee", ""]
    other = SingleLabel(name="size", column="size", labels=("big", "small"))
    several = replace(dataset, spec=dataset.spec.model_copy(update={"further_tasks": (other,)}))
    with pytest.raises(DataError, match="3 rows have split=target, and only a model of one label"):
        write_targets(targets, several)
    assert not has_targets(dataset.path)
