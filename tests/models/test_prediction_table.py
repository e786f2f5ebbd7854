"""Any images can be asked about, and the answers are one table, whatever the labels are called."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from graft.core.errors import DataError
from graft.models.bundle import ModelBundle
from tests.support.pictures import picture
from tests.support.tasks import of_labels
from tests.support.tiny import bundle_of, small_dataset

RESERVED = ("abstain", "confidence", "error", "label", "ood", "path", "set")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return bundle_of(small_dataset(tmp_path_factory.mktemp("set")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    (root / "deep").mkdir()
    for number, name in enumerate(["a.png", "b.png", "deep/c"]):
        picture(number, number).save(root / name, "PNG")
    return root


def array() -> np.ndarray:
    return np.asarray(picture(0, 0))


def png() -> bytes:
    content = io.BytesIO()
    picture(0, 0).save(content, "PNG")
    return content.getvalue()


ONE: dict[str, Callable[[Path], Any]] = {
    "path": lambda folder: folder / "a.png",
    "text": lambda folder: str(folder / "a.png"),
    "bytes": lambda folder: png(),
    "bytearray": lambda folder: bytearray(png()),
    "memoryview": lambda folder: memoryview(png()),
    "open file": lambda folder: io.BytesIO(png()),
    "picture": lambda folder: picture(0, 0),
    "array": lambda folder: array(),
    "array of a file's bytes": lambda folder: np.frombuffer(png(), np.uint8),
    "tensor of a file's bytes": lambda folder: torch.frombuffer(bytearray(png()), dtype=torch.uint8),
    "tensor H W C": lambda folder: torch.from_numpy(array().copy()),
    "tensor C H W": lambda folder: torch.from_numpy(array().copy()).permute(2, 0, 1),
    "row": lambda folder: {"image": picture(0, 0), "label": 3},
    "row of Hugging Face": lambda folder: {"bytes": png(), "path": "gone.png"},
}
MANY: dict[str, Callable[[Path], Any]] = {
    "folder": lambda folder: folder,
    "pattern": lambda folder: str(folder / "**" / "[abc]*"),
    "list": lambda folder: [folder / "a.png", str(folder / "b.png"), (folder / "deep/c").read_bytes()],
    "generator": lambda folder: (path for path in (folder / "a.png", folder / "b.png", folder / "deep/c")),
    "pictures": lambda folder: [picture(number, number) for number in range(3)],
    "batch of arrays": lambda folder: np.stack([np.asarray(picture(number, number)) for number in range(3)]),
    "batch of tensors": lambda folder: torch.stack(
        [torch.from_numpy(np.asarray(picture(number, number)).copy()).permute(2, 0, 1) for number in range(3)]
    ),
    "table of paths": lambda folder: pd.DataFrame(
        {"path": [folder / "a.png", folder / "b.png", folder / "deep/c"], "age": [1, 2, 3]}
    ),
    "column": lambda folder: pd.Series([str(folder / "a.png"), str(folder / "b.png"), str(folder / "deep/c")]),
    "array of names": lambda folder: np.array([str(folder / "a.png"), str(folder / "b.png"), str(folder / "deep/c")]),
    "rows": lambda folder: [{"image": picture(number, number), "label": 0} for number in range(3)],
}


@pytest.mark.parametrize("form", ONE)
def test_one_image_has_one_answer(bundle: ModelBundle, folder: Path, form: str) -> None:
    table = bundle.predict(ONE[form](folder))
    assert len(table) == 1
    assert table["error"].isna().all()
    expected = bundle.predict([png()])
    np.testing.assert_allclose(table["p:ant"], expected["p:ant"], atol=1e-6)


@pytest.mark.parametrize("form", MANY)
def test_many_images_have_an_answer_each(bundle: ModelBundle, folder: Path, form: str) -> None:
    table = bundle.predict(MANY[form](folder))
    assert len(table) == 3
    expected = bundle.predict([picture(number, number) for number in range(3)])
    np.testing.assert_allclose(table["p:ant"], expected["p:ant"], atol=1e-6)
    assert table["label"].tolist() == expected["label"].tolist()


@pytest.mark.parametrize("nothing", [[], (), iter([]), pd.DataFrame({"image": []})])
def test_no_image_has_no_answer(bundle: ModelBundle, nothing: Any) -> None:
    table = bundle.predict(nothing)
    assert table.empty
    assert list(table.columns[:3]) == ["path", "label", "confidence"]


def test_a_bad_image_among_many_is_a_row_with_its_error(bundle: ModelBundle, tmp_path: Path) -> None:
    bad = [tmp_path / "gone.png", b"no image", None, float("nan"), 7, tmp_path, array().astype(float), {"x": 1}]
    table = bundle.predict([png(), *bad, png()])
    assert table["error"].isna().tolist() == [True, *[False] * len(bad), True]
    assert table["label"].isna().tolist() == [False, *[True] * len(bad), False]
    assert table["label"].iloc[-1] == table["label"].iloc[0]
    said = table["error"].tolist()
    assert said[1] == "No such file or directory"
    assert said[3] == said[4] == "no image"
    assert said[5].startswith("int: expected a path, a folder, a pattern")
    assert said[6] == "Is a directory"
    assert said[7].startswith("image array of float64")
    with pytest.raises(DataError, match="image 2: "):
        bundle.predict([png(), png(), b"no image"], errors="raise")
    with pytest.raises(DataError, match=r"gone\.png: No such file"):
        bundle.predict(tmp_path / "gone.png")
    assert bundle.predict(tmp_path / "gone.png", errors="row")["error"].tolist() == ["No such file or directory"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (7, "int: expected a path, a folder, a pattern"),
        (None, "NoneType: expected"),
        ("nowhere/*.jpg", r"nowhere/\*.jpg: no file matches"),
        (pd.DataFrame({"a": [1], "b": [2]}), "a table with the columns a, b: expected one of bytes, image, path"),
        (io.StringIO("text"), "image 0: a file that gives str: open it in binary mode"),
    ],
)
def test_what_cannot_be_asked_is_one_line(bundle: ModelBundle, asked: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        bundle.predict(asked)


def test_images_are_read_as_they_are_needed(bundle: ModelBundle) -> None:
    alive = most = 0

    class Opened(io.BytesIO):
        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            super().__init__(png())

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def opened() -> Iterator[Opened]:
        for _ in range(80):
            yield Opened()

    assert len(bundle.predict(opened())) == 80
    assert most < 40


def test_labels_may_have_the_names_of_our_columns(bundle: ModelBundle) -> None:
    labels = RESERVED[:3]
    named = replace(bundle, spec=bundle.spec.model_copy(update={"labels": labels, "task": of_labels(*labels)}))
    table = named.predict([png(), b"no image"])
    assert table.columns.is_unique
    assert set(table["label"].dropna()) <= set(labels)
    assert table.loc[0, [f"p:{label}" for label in labels]].sum() == pytest.approx(1.0)
    assert table["error"].tolist()[0] is None
    assert "abstain" in table  # the bare name, which is free because this model cannot abstain
    np.testing.assert_array_equal(table["abstain"], table["p:abstain"])


def test_old_columns_are_there_for_one_version(bundle: ModelBundle) -> None:
    table = bundle.predict([png()])
    assert list(table.columns) == [
        "path",
        "label",
        "confidence",
        "p:ant",
        "p:bee",
        "p:cat",
        "error",
        "ant",
        "bee",
        "cat",
    ]
    np.testing.assert_array_equal(table[["ant", "bee", "cat"]], table[["p:ant", "p:bee", "p:cat"]])


def test_a_path_may_begin_at_home(bundle: ModelBundle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert bundle.predict("~/a.png")["path"].tolist() == ["~/a.png"]
    assert len(bundle.predict("~/*.png")) == 2


@pytest.mark.parametrize(
    "classes",
    [
        ("ant", "p:ant", "p:p:ant"),
        ("nan", "None", "True"),
        ("x,y", 'x"y', "x\ny"),
        ("=1+1", "@x", "-5"),
        ("index", "0", "row"),
        ("caf\u00e9", "\U0001f41c", "\u0430nt"),
    ],
)
def test_labels_of_any_form_have_a_column_each_and_survive_csv(tmp_path: Path, classes: tuple[str, str, str]) -> None:
    bundle = bundle_of(small_dataset(tmp_path / "set", classes))
    table = bundle.predict([picture(label, 100 + label) for label in range(3)])
    assert table["label"].tolist() == list(classes)
    probabilities = table[[f"p:{name}" for name in classes]]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    table.to_csv(tmp_path / "answers.csv", index=False)
    again = pd.read_csv(tmp_path / "answers.csv", dtype=str, keep_default_na=False)
    assert again["label"].tolist() == list(classes)
    assert again.columns.tolist() == table.columns.tolist()
