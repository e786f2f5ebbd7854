"""Sets that come packed are read as they are: saved by `datasets`, in Parquet, in WebDataset tars."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graft.core.errors import DataError
from graft.data.fetch import fetch
from graft.data.listing import list_images
from graft.data.packed_sets import packed_set
from graft.data.records import Record
from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import validate
from graft.tasks.columns import TaskColumn
from tests.support.encoded import encoded
from tests.support.pictures import picture

CLASSES = ("ant", "bee")
JPEG = encoded(picture(0, 0), "JPEG")


def images(number: int, first: int = 0) -> list[bytes]:
    return [encoded(picture(at % 2, first + at), "JPEG" if at % 3 else "PNG") for at in range(number)]


def fetched(source: Path, into: Path) -> tuple[Record, ...]:
    fetch(str(source), into)
    return list_images(into).records


def same(records: Iterable[Record], contents: Iterable[bytes]) -> None:
    assert sorted(Path(record.file).read_bytes() for record in records) == sorted(contents)


def saved(folder: Path, table: pa.Table) -> bytes:
    """Write a set of one file as `datasets` saves it; return the file's content."""
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "a.arrow"}]}))
    (folder / "dataset_info.json").write_text("{}")
    content = io.BytesIO()
    with pa.ipc.new_stream(content, table.schema) as writer:
        writer.write_table(table)
    (folder / "a.arrow").write_bytes(content.getvalue())
    return content.getvalue()


def test_lengths_that_lead_out_of_a_saved_file_are_an_error_not_the_end_of_the_process(tmp_path: Path) -> None:
    content = saved(tmp_path / "set", pa.table({"image": images(3), "label": ["a", "b", "a"]}))
    ends = b"".join(size.to_bytes(4, "little") for size in np.cumsum([0, *map(len, images(3))]).tolist())
    assert content.count(ends) == 1
    wrong = ends[:8] + (2**31 - 1).to_bytes(4, "little") + ends[12:]
    (tmp_path / "set" / "a.arrow").write_bytes(content.replace(ends, wrong))
    with pytest.raises(DataError, match=r"a\.arrow: not readable .*save the set again"):
        fetch(str(tmp_path / "set"), tmp_path / "raw")


def test_a_split_cannot_lead_out_of_a_saved_set(tmp_path: Path) -> None:
    saved(tmp_path / "other", pa.table({"image": images(2), "label": ["a", "b"]}))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": ["../other"]}))
    with pytest.raises(DataError, match="leads out of the folder"):
        packed_set(tmp_path / "set")


@pytest.mark.parametrize("content", ["[" * 100_000, "{", '{"splits": 3}', '{"splits": [[]]}', "7", "\ud800"])
def test_descriptions_of_any_form_are_read_or_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset_dict.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError) as caught:
        fetch(str(tmp_path / "set"), tmp_path / "raw")
    assert "\n" not in str(caught.value)


def test_a_table_that_unpacks_to_a_thousand_times_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.data.packed_sets._MOST_BYTES", 2**20)
    bomb = pa.table({"image": [bytes(2**22)] * 2, "label": ["a", "b"]})
    pq.write_table(bomb, tmp_path / "bomb.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(DataError, match="decompression bomb"):
        fetch(str(tmp_path / "bomb.parquet"), tmp_path / "raw")


def test_holes_in_a_tar_are_refused(tmp_path: Path) -> None:
    """A member of a terabyte takes a kilobyte if it is a hole."""
    hole = tarfile.TarInfo("0.png")
    hole.size, hole.type = 0, tarfile.GNUTYPE_SPARSE
    header = bytearray(hole.tobuf(tarfile.GNU_FORMAT))
    header[386:398], header[398:410] = b"00000000000\0", b"00000000000\0"
    header[483:495] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(10240 - 512))
    with pytest.raises(DataError, match="sparse"):
        fetch(str(tmp_path / "a.tar"), tmp_path / "raw")


@pytest.fixture
def hugging_face() -> Any:
    return pytest.importorskip("datasets")


def a_set(datasets: Any, contents: list[bytes], **more: list[Any]) -> Any:
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    values = {"image": [{"bytes": c, "path": None} for c in contents], "label": [at % 2 for at in range(len(contents))]}
    kinds = {name: datasets.Value("string" if isinstance(of[0], str) else "int64") for name, of in more.items()}
    return datasets.Dataset.from_dict({**values, **more}, features=datasets.Features({**features, **kinds}))


def test_a_set_that_datasets_saved_with_splits(tmp_path: Path, hugging_face: Any) -> None:
    train, test = images(6), images(4, 50)
    splits = {"train": a_set(hugging_face, train, patient=list("aabbcc")), "validation": a_set(hugging_face, test)}
    hugging_face.DatasetDict(splits).save_to_disk(tmp_path / "set")
    records = fetched(tmp_path / "set", tmp_path / "raw")
    same(records, train + test)
    assert {record.label for record in records} == set(CLASSES)
    assert {record.split for record in records} == {"train", "test"}  # of two splits, the second is the test set
    assert [record.extra["patient"] for record in records if record.split == "train"] == list("aabbcc")


def test_one_split_saved_alone_has_no_split(tmp_path: Path, hugging_face: Any) -> None:
    a_set(hugging_face, images(6)).save_to_disk(tmp_path / "set")
    records = fetched(tmp_path / "set", tmp_path / "raw")
    assert {record.split for record in records} == {None}


@pytest.mark.parametrize("alone", [True, False])
def test_parquet_as_datasets_and_the_hub_have_it(tmp_path: Path, hugging_face: Any, alone: bool) -> None:
    contents = images(8)
    whole = a_set(hugging_face, contents)
    (tmp_path / "data").mkdir()
    if alone:
        whole.to_parquet(tmp_path / "data/flowers.parquet")
        records = fetched(tmp_path / "data/flowers.parquet", tmp_path / "raw")
        assert {record.split for record in records} == {None}
    else:
        whole.select(range(5)).to_parquet(tmp_path / "data/train-00000-of-00001.parquet")
        whole.select(range(5, 8)).to_parquet(tmp_path / "data/test-00000-of-00001.parquet")
        records = fetched(tmp_path, tmp_path / "raw")
        assert sum(record.split == "test" for record in records) == 3
    same(records, contents)


def test_parquet_of_another_program_with_plain_bytes(tmp_path: Path) -> None:
    contents = images(4)
    table = pa.table({"picture": contents, "category": ["007", "NA", "007", "NA"], "age": [1, None, 3, 4]})
    pq.write_table(table, tmp_path / "x.parquet")
    records = fetched(tmp_path / "x.parquet", tmp_path / "raw")
    assert [record.label for record in records] == ["007", "NA", "007", "NA"]
    assert [record.extra["age"] for record in records] == ["1", "", "3", "4"]


def tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def test_webdataset_tars(tmp_path: Path) -> None:
    contents = images(6)
    for split, rows in (("train", range(4)), ("test", range(4, 6))):
        members: dict[str, bytes] = {}
        for row in rows:
            members[f"{row:04d}.jpg"] = contents[row]
            members[f"{row:04d}.cls"] = str(row % 2).encode()
            members[f"{row:04d}.json"] = json.dumps({"site": f"s{row}"}).encode()
        tar(tmp_path / f"birds-{split}-000000.tar", members)
    (tmp_path / "classnames.txt").write_text("ant\nbee\n")
    records = fetched(tmp_path, tmp_path / "raw")
    same(records, contents)
    assert {record.label for record in records} == set(CLASSES)
    assert sorted(record.extra["site"] for record in records if record.split == "test") == ["s4", "s5"]


def test_a_tar_of_class_folders(tmp_path: Path) -> None:
    contents = images(4)
    names = ("a/ant/1.png", "a/ant/2.jpg", "a/bee/1.jpg", "a/bee/2.png")
    records = fetched(tar(tmp_path / "x.tar", dict(zip(names, contents, strict=True))), tmp_path / "raw")
    assert [record.label for record in records] == ["ant", "ant", "bee", "bee"]


def test_its_columns_never_meet_ours(tmp_path: Path, hugging_face: Any) -> None:
    odd = {"path": ["x"] * 4, "width": [1] * 4, "id": [2] * 4}
    a_set(hugging_face, images(4), **odd).to_parquet(tmp_path / "x.parquet")
    records = fetched(tmp_path / "x.parquet", tmp_path / "raw")
    assert {record.extra["set:path"] for record in records} == {"x"}
    assert {record.extra["width"] for record in records} == {"1"}


def test_it_goes_through_validation_and_back(tmp_path: Path, hugging_face: Any) -> None:
    a_set(hugging_face, [encoded(picture(at % 2, at), "PNG") for at in range(30)]).save_to_disk(tmp_path / "set")
    fetch(str(tmp_path / "set"), tmp_path / "raw")
    validation = validate(tmp_path / "raw", ValidateDataParams())
    assert validation.verdict != "fail", validation.failure()
    validation.write(tmp_path / "dataset")
    again = hugging_face.load_from_disk(tmp_path / "dataset")
    assert sum(len(rows) for rows in again.values()) == 30
    assert again["train"].features["label"].names == list(CLASSES)
    (tmp_path / "round").mkdir()
    assert len(fetched(tmp_path / "dataset", tmp_path / "round/raw")) == 30


def broken_sets(tmp_path: Path) -> Iterable[tuple[str, Path, str]]:
    content = images(2)
    whole = tar(tmp_path / "whole.tar", {"1.png": content[0], "1.cls": b"0"}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:700])
    yield "cut.tar", tmp_path / "cut.tar", "cut short|damaged archive"
    yield "no label", tar(tmp_path / "none.tar", {"1.png": content[0]}), "1 has no label; expected 1.cls"
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing")
    yield "broken", tmp_path / "x.parquet", r"x\.parquet: not readable"
    pq.write_table(pa.table({"a": [1]}), tmp_path / "y.parquet")
    yield "no image", tmp_path / "y.parquet", "no column with the image .found: a.; name it image"
    pq.write_table(pa.table({"image": content, "class": [1, 2], "target": [1, 2]}), tmp_path / "z.parquet")
    yield "two labels", tmp_path / "z.parquet", "'class' and 'target' could each be the label"
    rows = [{"bytes": None, "path": "a.png"}]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind), "label": ["a"]}), tmp_path / "w.parquet")
    yield "no bytes", tmp_path / "w.parquet", "row 0 lacks the bytes"


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    for name, source, expected in broken_sets(tmp_path):
        with pytest.raises(DataError, match=expected) as caught:
            fetch(str(source), tmp_path / f"raw {name}")
        assert "\n" not in str(caught.value)


def test_a_folder_of_images_is_none_whatever_lies_beside_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(images(1)[0])
    (tmp_path / "index.parquet").write_bytes(b"")
    assert packed_set(tmp_path) is None
    assert packed_set(tmp_path / "nothing") is None


@pytest.mark.parametrize("label", [-1, None])
def test_a_split_without_labels_is_named(tmp_path: Path, hugging_face: Any, label: int | None) -> None:
    features = hugging_face.Features(
        {"image": hugging_face.Image(), "label": hugging_face.ClassLabel(names=["ant", "bee"])}
    )

    def part(labels: list[int | None]) -> Any:
        rows = {"image": [{"bytes": JPEG, "path": None}] * len(labels), "label": labels}
        return hugging_face.Dataset.from_dict(rows, features=features)

    parts = hugging_face.DatasetDict({"train": part([0, 1]), "test": part([label, label])})
    parts.save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="of the split test has no label; save the set again without it"):
        fetch(str(tmp_path / "saved"), tmp_path / "raw")


def test_folders_of_a_converted_set_are_its_splits(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        (tmp_path / "set/default" / split).mkdir(parents=True)
        table = pa.table({"image": [{"bytes": JPEG, "path": ""}], "label": ["ant"]})
        pq.write_table(table, tmp_path / "set/default" / split / "0000.parquet")
    fetch(str(tmp_path / "set"), tmp_path / "raw")
    assert {record.split for record in list_images(tmp_path / "raw").records} == {"train", "val", "test"}


def test_a_list_of_class_numbers_is_tags_by_name(tmp_path: Path, hugging_face: Any) -> None:
    features = hugging_face.Features(
        {
            "image": hugging_face.Image(),
            "label": hugging_face.Sequence(hugging_face.ClassLabel(names=["ant", "bee"])),
        }
    )
    rows = {"image": [{"bytes": JPEG, "path": None}] * 3, "label": [[0, 1], [1], [0]]}
    hugging_face.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    fetch(str(tmp_path / "saved"), tmp_path / "raw")
    with pytest.raises(DataError, match="label is a list of 2; write one label, or learn them as tags"):
        list_images(tmp_path / "raw")
    found = list_images(tmp_path / "raw", tasks=(TaskColumn("label", "tags"),))
    assert [record.label for record in found.records] == ["ant|bee", "bee", "ant"]


def test_a_name_that_leads_out_of_a_tar_is_no_label(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        member = tarfile.TarInfo("ant/../../1.jpg")
        member.size = len(JPEG)
        tar.addfile(member, io.BytesIO(JPEG))
    with pytest.raises(DataError, match="leads out of the archive"):
        fetch(str(tmp_path / "set.tar"), tmp_path / "raw")
