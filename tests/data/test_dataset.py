import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.core.atomic import read_json, write_json
from graft.core.errors import DataError
from graft.data import arrow_shards
from graft.data.dataset import TABLE_COLUMNS, ImageDataset, digest, write_dataset
from tests.support.encoded import encoded
from tests.support.pictures import picture
from tests.support.tasks import of_labels

TASK = of_labels("x", "y")


def table(contents: Sequence[bytes], labels: Sequence[str] = (), splits: Sequence[str] = ()) -> pd.DataFrame:
    count = len(contents)
    labels = labels or [("ant", "bee")[i % 2] for i in range(count)]
    frame = pd.DataFrame({column: [""] * count for column in TABLE_COLUMNS})
    return frame.assign(
        id=[hashlib.sha256(content).hexdigest() for content in contents],
        path=[f"{label}/{i}.png" for i, label in enumerate(labels)],
        label=list(labels),
        split=list(splits) or ["train"] * count,
        width=1,
        height=1,
        bytes=[len(content) for content in contents],
    )


def test_a_dataset_round_trip(tmp_path: Path) -> None:
    contents = [b"a", b"", b"c" * 100]
    written = write_dataset(tmp_path / "d", table(contents, splits=["train", "val", "test"]), contents, ["ant", "bee"])
    read = ImageDataset.read(tmp_path / "d")
    assert len(read) == 3
    assert read.classes == ("ant", "bee")
    assert read.spec == written.spec
    assert [read.image(row) for row in (2, 0, 1)] == [contents[2], contents[0], contents[1]]
    assert list(read.reader()) == contents
    assert read.targets().tolist() == [0, 1, 0]
    assert read.indices("val").tolist() == [1]
    assert read.counts() == {"train": {"ant": 1, "bee": 0}, "val": {"ant": 0, "bee": 1}, "test": {"ant": 1, "bee": 0}}


@settings(max_examples=25, deadline=None)
@given(contents=st.lists(st.binary(max_size=40), min_size=1, max_size=30))
def test_any_split_into_batches_and_shards_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow_shards, "BATCH_BYTES", 30)
        patch.setattr(arrow_shards, "SHARD_BYTES", 100)
        folder = tmp_path_factory.mktemp("dataset") / "d"
        splits = [("train", "test", "train", "val")[len(content) % 4] for content in contents]
        read = write_dataset(folder, table(contents, splits=splits), contents, ["ant", "bee"])
    reader = read.reader()
    assert sum(map(sum, read.spec.shards.values())) == len(reader) == len(contents)
    assert [reader[row] for row in reversed(range(len(contents)))] == contents[::-1]


def test_rows_outside_raise(tmp_path: Path) -> None:
    reader = write_dataset(tmp_path / "d", table([b"a"]), [b"a"], ["ant"]).reader()
    for row in (-1, 1):
        with pytest.raises(IndexError):
            reader[row]


def test_many_small_files_become_few_large_ones(tmp_path: Path) -> None:
    contents = [bytes([i % 256]) * 50 for i in range(3000)]
    write_dataset(tmp_path / "d", table(contents), contents, ["ant", "bee"])
    files = sorted(
        path.relative_to(tmp_path / "d").as_posix() for path in (tmp_path / "d").rglob("*") if path.is_file()
    )
    assert files == [
        "SHA256SUMS",
        "dataset.json",
        "dataset_dict.json",
        "table.parquet",
        "train/data-00000.arrow",
        "train/dataset_info.json",
        "train/state.json",
    ]


def test_it_opens_in_hugging_faces_datasets_in_one_line(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = [encoded(picture(number % 2, number), "PNG") for number in range(6)]
    splits = ["train", "test", "train", "val", "test", "train"]
    rows = table(images, splits=splits).assign(camera=list("abcdef"), weight=np.arange(6) / 2, image="x")
    write_dataset(tmp_path / "d", rows, images, ["ant", "bee"])

    read = datasets.load_from_disk(tmp_path / "d")

    assert {split: len(rows) for split, rows in read.items()} == {"train": 3, "val": 1, "test": 2}
    assert read["train"].features["label"].names == ["ant", "bee"]
    assert read["train"]["label"] == [0, 0, 1]
    assert (read["test"]["camera"], read["test"]["weight"]) == (["b", "e"], [0.5, 2.0])
    shown = read["val"][0]["image"]
    assert (shown.size, np.asarray(shown).tolist()) == (picture(1, 3).size, np.asarray(picture(1, 3)).tolist())
    assert Path(read["test"].cast_column("image", datasets.Image(decode=False))[1]["image"]["path"]).name == "4.png"
    assert datasets.Dataset.from_file(str(tmp_path / "d/train/data-00000.arrow")).features == read["train"].features
    assert read["train"].filter(lambda row: row["label"] == 1).num_rows == 1


def test_an_empty_dataset_is_valid(tmp_path: Path) -> None:
    read = write_dataset(tmp_path / "d", table([]), [], [])
    assert len(read) == 0
    assert list(read.reader()) == []
    assert read.counts() == {}


def test_the_digest_covers_only_content_label_and_split() -> None:
    plain = table([b"a", b"b"], labels=["x", "y"])
    assert digest(plain, TASK) == digest(plain.iloc[::-1], TASK)
    assert digest(plain, TASK) == digest(plain.assign(path="elsewhere", width=9), TASK)
    for other in (plain.assign(label="x"), plain.assign(split="val"), table([b"a", b"c"], labels=["x", "y"])):
        assert digest(other, TASK) != digest(plain, TASK)


def test_extra_columns_are_kept(tmp_path: Path) -> None:
    read = write_dataset(tmp_path / "d", table([b"a"]).assign(camera="left"), [b"a"], ["ant"])
    assert read.table["camera"].tolist() == ["left"]


def test_a_folder_without_a_dataset_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image dataset here \(dataset\.json is missing\); run validate_data$"):
        ImageDataset.read(tmp_path)


def test_another_format_is_one_clear_line(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", table([b"a"]), [b"a"], ["ant"])
    write_json(tmp_path / "d" / "dataset.json", read_json(tmp_path / "d" / "dataset.json") | {"version": 3})
    with pytest.raises(DataError, match="image dataset of format 3, expected 2; run validate_data again"):
        ImageDataset.read(tmp_path / "d")


def test_a_missing_column_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="table without column split"):
        write_dataset(tmp_path / "d", table([b"a"]).drop(columns="split"), [b"a"], ["ant"])


@pytest.mark.parametrize("images", [[], [b"a", b"b", b"c"]])
def test_images_that_do_not_match_the_rows_leave_nothing(tmp_path: Path, images: list[bytes]) -> None:
    with pytest.raises((DataError, ValueError)):
        write_dataset(tmp_path / "d", table([b"a", b"b"]), images, ["ant", "bee"])
    assert list(tmp_path.iterdir()) == []
