"""Manifests as people have them."""

import unicodedata
from pathlib import Path

import pytest

from graft.core.errors import DataError
from graft.data.fetch import fetch
from graft.data.listing import list_images
from graft.data.relabel import relabel
from graft.tasks.columns import TaskColumn
from tests.support.encoded import scene


def images(folder: Path, *names: str) -> Path:
    for name in names or ("1.png", "2.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def labels(folder: Path) -> dict[str, str]:
    return {record.path: record.label for record in list_images(folder).records}


@pytest.mark.parametrize(
    "header",
    ["file_name,class", "filename,category", "image,target", "Image,Label", "image_path,class_name", "FILE,Class"],
)
def test_names_that_columns_have(tmp_path: Path, header: str) -> None:
    (images(tmp_path) / "manifest.csv").write_text(f"{header},camera\n1.png,cat,X\n2.png,dog,Y\n")
    found = list_images(tmp_path)
    assert labels(tmp_path) == {"1.png": "cat", "2.png": "dog"}
    assert [dict(record.extra) for record in found.records] == [{"camera": "X"}, {"camera": "Y"}]


def test_our_own_names_come_first(tmp_path: Path) -> None:
    text = "image,path,category,label\nx,1.png,animal,cat\ny,2.png,animal,dog\n"
    (images(tmp_path) / "manifest.csv").write_text(text)
    assert labels(tmp_path) == {"1.png": "cat", "2.png": "dog"}
    assert list_images(tmp_path).records[0].extra == {"image": "x", "category": "animal"}


def test_two_columns_that_could_be_the_label(tmp_path: Path) -> None:
    (images(tmp_path) / "manifest.csv").write_text("path,class,category\n1.png,cat,animal\n")
    with pytest.raises(DataError, match="'class' and 'category' could each be the column 'label'; name the right one"):
        list_images(tmp_path)


def test_row_numbers_of_pandas_are_no_column(tmp_path: Path) -> None:
    (images(tmp_path) / "manifest.csv").write_text(",path,label\n0,1.png,cat\n1,2.png,dog\n")
    assert [dict(record.extra) for record in list_images(tmp_path).records] == [{}, {}]


def test_labels_with_commas_are_named_and_not_cut(tmp_path: Path) -> None:
    text = "path,label\n1.png,ant, black\n2.png,ant, red\n"
    (images(tmp_path) / "manifest.csv").write_text(text)
    with pytest.raises(
        DataError, match=r"manifest\.csv: line 2: 3 fields, but the header has 2 \('1\.png,ant, black'\)"
    ):
        list_images(tmp_path)
    with pytest.raises(DataError, match=r"manifest\.csv: line 2: 3 fields"):
        fetch(str(tmp_path / "manifest.csv"), tmp_path / "raw")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", "file_name,label\n1.png,007\n2.png,NA\n"),
        ("metadata.jsonl", '{"file_name": "1.png", "label": "007"}\n{"file_name": "2.png", "label": "NA"}\n'),
        ("manifest.jsonl", '{"image": "1.png", "class": "007"}\n{"image": "2.png", "class": "NA"}\n'),
        ("manifest.csv", "path;label\n1.png;007\n2.png;NA\n"),
    ],
)
def test_tables_beside_images(tmp_path: Path, name: str, text: str) -> None:
    (images(tmp_path / "set") / name).write_text(text)
    assert labels(tmp_path / "set") == {"1.png": "007", "2.png": "NA"}
    assert fetch(str(tmp_path / "set"), tmp_path / "folder").files == 3
    assert labels(tmp_path / "folder") == {"1.png": "007", "2.png": "NA"}
    assert fetch(str(tmp_path / "set" / name), tmp_path / "table").files == 2
    assert labels(tmp_path / "table") == {"1.png": "007", "2.png": "NA"}


def test_metadata_of_each_split(tmp_path: Path) -> None:
    images(tmp_path, "train/1.png", "train/2.png", "test/1.png")
    (tmp_path / "train/metadata.csv").write_text("file_name,label\n1.png,cat\n2.png,dog\n")
    (tmp_path / "test/metadata.jsonl").write_text('{"file_name": "1.png", "label": "cat"}\n')
    found = list_images(tmp_path).records
    assert [(record.path, record.label, record.split) for record in found] == [
        ("test/1.png", "cat", "test"),
        ("train/1.png", "cat", "train"),
        ("train/2.png", "dog", "train"),
    ]
    (tmp_path / "test/metadata.jsonl").write_text('{"file_name": "9.png", "label": "cat"}\n')
    assert list_images(tmp_path).problems[0].message == "test/metadata.jsonl line 1 names a file that is not there"


PATHS = {
    "written on Windows": "images\\{}",
    "from the folder itself": "./images/{}",
    "from the folder itself, on Windows": ".\\images\\{}",
    "with blanks around it": " images/{} ",
}


@pytest.mark.parametrize("form", PATHS)
def test_paths_as_other_systems_write_them(tmp_path: Path, form: str) -> None:
    (tmp_path / "data/images").mkdir(parents=True)
    rows = []
    for number, label in enumerate(("ant", "bee")):
        scene(number).save(tmp_path / f"data/images/{number}.png")
        rows.append(f"{PATHS[form].format(f'{number}.png')},{label}\n")
    manifest = tmp_path / "data/labels.csv"
    manifest.write_text("file,class\n" + "".join(rows))
    fetch(str(manifest), tmp_path / "raw")
    listing = list_images(tmp_path / "raw")
    assert not listing.problems
    assert [(record.path, record.label) for record in listing.records] == [
        ("images/0.png", "ant"),
        ("images/1.png", "bee"),
    ]


@pytest.mark.parametrize("path", ["..\\secret.png", ".\\..\\secret.png", " ../secret.png"])
def test_no_form_of_a_path_leads_out(tmp_path: Path, path: str) -> None:
    (tmp_path / "data").mkdir()
    for name in ("secret.png", "data/1.png"):
        scene(1).save(tmp_path / name)
    (tmp_path / "data/manifest.csv").write_text(f"path,label\n1.png,ant\n{path},bee\n")
    listing = list_images(tmp_path / "data")
    assert [record.path for record in listing.records] == ["1.png"]
    assert {problem.kind for problem in listing.problems} <= {"path_escape", "missing_file"}
    with pytest.raises(DataError):
        fetch(str(tmp_path / "data/manifest.csv"), tmp_path / "raw")


def test_splits_have_the_names_that_folders_may_have(tmp_path: Path) -> None:
    names = ("Training", "dev", "TEST", "validation", "train2017")
    rows = [f"{number}.png,ant,{name}\n" for number, name in enumerate(names)]
    for number in range(len(names)):
        scene(number, 8, 8).save(tmp_path / f"{number}.png")
    (tmp_path / "manifest.csv").write_text("path,label,split\n" + "".join(rows))
    assert [record.split for record in list_images(tmp_path).records] == ["train", "val", "test", "val", "train"]


@pytest.mark.parametrize("cell", ['["ant", "bee"]', "['ant', 'bee']", "[]"])
def test_a_list_of_labels_is_no_label_but_tags(tmp_path: Path, cell: str) -> None:
    scene(1, 8, 8).save(tmp_path / "1.png")
    quoted = '"' + cell.replace('"', '""') + '"'
    (tmp_path / "manifest.csv").write_text(f"path,label\n1.png,{quoted}\n")
    with pytest.raises(DataError, match=r"line 2: label is a list of \d; .* validate_data.labels={label: tags}"):
        list_images(tmp_path)
    tags = (TaskColumn("label", "tags"),)
    (record,) = list_images(tmp_path, tasks=tags).records
    assert record.label == ("ant|bee" if "ant" in cell else "")


def test_captions_are_no_manifest(tmp_path: Path) -> None:
    images(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\ncat/1.png,a cat\n")
    assert labels(tmp_path) == {"cat/1.png": "cat", "dog/2.png": "dog"}


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def test_two_forms_of_an_accent_are_one_class(tmp_path: Path) -> None:
    images(tmp_path, "café/1.png", f"{decomposed('café')}/2.png", "bar/3.png")
    assert len(list(tmp_path.iterdir())) == 3
    assert set(labels(tmp_path).values()) == {"café", "bar"}
    splits = tmp_path / "splits"
    images(splits, f"train/{decomposed('café')}/1.png", "test/café/2.png")
    assert set(labels(splits).values()) == {"café"}


def test_two_forms_of_an_accent_in_a_manifest(tmp_path: Path) -> None:
    images(tmp_path / "set", f"{decomposed('crème')}.png", "brûlée.png")
    text = f"path,label\ncrème.png,café\n{decomposed('brûlée')}.png,{decomposed('café')}\n"
    (tmp_path / "set/manifest.csv").write_text(text, encoding="utf-8")
    assert set(labels(tmp_path / "set").values()) == {"café"}
    assert not list_images(tmp_path / "set").problems
    assert fetch(str(tmp_path / "set/manifest.csv"), tmp_path / "raw").files == 2
    assert set(labels(tmp_path / "raw").values()) == {"café"}


def test_groups_that_differ_in_form_are_said(tmp_path: Path) -> None:
    text = "path,label,group,age\n1.png,cat,patient 7,07\n2.png,dog,Patient 7 ,7\n"
    (images(tmp_path) / "manifest.csv").write_text(text)
    assert list_images(tmp_path).warnings == (
        "manifest.csv: 'Patient 7 ' and 'patient 7' in column 'group' differ only in form and count as different",
    )


def test_relabelling_keeps_the_table_as_it_was_written(tmp_path: Path) -> None:
    queue = tmp_path / "queue.csv"
    queue.write_text("path;label;decision;new_label\r\n1.png;cat;relabel;dog\r\n")
    folder = images(tmp_path / "set")
    (folder / "manifest.csv").write_bytes(b"\xef\xbb\xbffile_name;class;note\r\n1.png;cat;007\r\n2.png;dog;NA\r\n")
    relabel(queue, folder)
    assert (folder / "manifest.csv").read_bytes() == (
        b"\xef\xbb\xbffile_name;class;note\r\n1.png;dog;007\r\n2.png;dog;NA\r\n"
    )


def test_relabelling_json_lines(tmp_path: Path) -> None:
    queue = tmp_path / "queue.csv"
    queue.write_text("path,label,decision,new_label\ntrain/1.png,cat,relabel,dog\n")
    folder = images(tmp_path / "set", "train/1.png", "train/2.png", "test/1.png")
    lines = '{"file_name": "1.png", "label": "cat", "age": 1.50}\n{"file_name": "2.png", "label": "dog"}\n'
    (folder / "train/metadata.jsonl").write_text(lines)
    (folder / "test/metadata.csv").write_text("file_name,label\n1.png,cat\n")
    assert relabel(queue, folder).relabelled == 1
    assert labels(folder) == {"test/1.png": "cat", "train/1.png": "dog", "train/2.png": "dog"}
    assert (folder / "train/metadata.jsonl").read_text() == (
        '{"file_name": "1.png", "label": "dog", "age": 1.5}\n{"file_name": "2.png", "label": "dog"}\n'
    )
