"""From images without labels to a list, decisions on its page, and data to learn from."""

import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import graft.data.relabel
import pipelines.console.predicting
from graft.core.csv_table import read_csv
from graft.data.label_queue import QUEUE_COLUMNS
from graft.data.listing import list_images
from graft.labelling.to_label import PAGE, QUEUE
from tests.support.browser import Browser, browser
from tests.support.pictures import picture
from tests.support.shifted import adaptable
from tests.support.tiny import CLASSES, small_dataset

ODD = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    adaptable(small_dataset(folder / "dataset")).save(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "photos of bees"
    (folder / "deep").mkdir(parents=True)
    for number in range(30):
        picture(number % 3, 7000 + number, 32).save(folder / "deep" / f"{number:02}.png")
    picture(0, 7100, 32).save(folder / ODD)
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def predicted(model: Path, unlabelled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("out")
    return out, _predict(model, unlabelled, out)


def _predict(model: Path, folder: Path, out: Path, *options: str) -> str:
    app = typer.Typer()
    app.command()(pipelines.console.predicting.predict)
    found = CliRunner().invoke(app, [str(folder), "--model", str(model), "--out", str(out), *options])
    assert found.exit_code == 0, found.output
    return found.output


def _relabel(*options: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(graft.data.relabel.main)
    found = CliRunner().invoke(app, options)
    return found.exit_code, found.output + str(found.exception or "")


def _decide(queue: Path, decisions: dict[str, tuple[str, str]]) -> None:
    table = read_csv(queue)
    for column, at in (("decision", 0), ("new_label", 1)):
        values = [decisions.get(path, ("", ""))[at] for path in table.values("path")]
        table = table.with_values(column, values)
    table.write(queue)


def test_predict_lists_every_image_with_a_reason(predicted: tuple[Path, str]) -> None:
    out, said = predicted
    assert f"to label {out / QUEUE}; decide on {out / PAGE}" in said
    table = read_csv(out / QUEUE)
    assert table.columns == (*QUEUE_COLUMNS, "reason")
    assert len(table.rows) == len(set(table.values("path"))) == 31
    assert set(table.values("label")) == set(table.values("decision")) == {""}
    assert set(table.values("suggested")) <= set(CLASSES)
    assert all(table.values("reason"))


def test_decisions_become_data_to_learn_from(model: Path, unlabelled: Path, tmp_path: Path) -> None:
    folder, out = Path(shutil.copytree(unlabelled, tmp_path / "photos")), tmp_path / "out"
    _predict(model, folder, out, "--to-label", "12")
    first = read_csv(out / QUEUE)
    one, two, three, *_ = first.values("path")
    suggested = dict(zip(first.values("path"), first.values("suggested"), strict=True))
    right = next(label for label in suggested.values() if label != suggested[two])
    _decide(out / QUEUE, {one: ("keep", ""), two: ("relabel", right), three: ("relabel", "")})
    code, text = _relabel(str(out / QUEUE), "--data", str(folder))
    assert code == 0
    assert f"{folder}: 3 relabelled, 0 kept, 9 not reviewed" in text
    found = {record.path: record.label for record in list_images(folder).records}
    assert found == {one: suggested[one], two: right, three: suggested[three]}
    # once more: nothing changes; and what has a label is not listed again
    assert "0 relabelled, 3 kept, 9 not reviewed" in _relabel(str(out / QUEUE), "--data", str(folder))[1]
    _predict(model, folder, out, "--to-label", "100")
    again = read_csv(out / QUEUE)
    assert len(again.rows) == 31 - 3
    assert not set(again.values("path")) & set(found)
    four = again.values("path")[0]
    _decide(out / QUEUE, {four: ("relabel", "wasp")})
    assert "label 'wasp' was suggested for no image" in _relabel(str(out / QUEUE), "--data", str(folder))[1]
    assert _relabel(str(out / QUEUE), "--data", str(folder), "--new-classes")[0] == 0
    assert len(list_images(folder).records) == 4


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("gone.png,,ant,0.5,keep,,x", "line 2: no image 'gone.png'"),
        ("../a.png,,ant,0.5,keep,,x", "line 2: no image '../a.png'"),
        ("0.png,,,0.5,keep,,x", "line 2: keep without a new_label; fill it in"),
        ("0.png,,ant,0.5,relabel,aunt,x", "did you mean 'ant'?"),
        ("1.png,,ant,0.5,keep,,x", "line 2: '1.png' is labelled 'bee' in"),
    ],
)
def test_a_row_that_does_not_fit_is_one_clear_line(row: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(2):
        picture(number, number).save(tmp_path / "images" / f"{number}.png")
    manifest = tmp_path / "images" / "manifest.csv"
    manifest.write_text("path,label\n1.png,bee\n")
    (tmp_path / "q.csv").write_text(",".join((*QUEUE_COLUMNS, "reason")) + f"\n{row}\n")
    code, text = _relabel(str(tmp_path / "q.csv"), "--data", str(tmp_path / "images"))
    assert code == 1
    assert said in text
    assert manifest.read_text() == "path,label\n1.png,bee\n"


def test_none_is_listed_on_request(model: Path, unlabelled: Path, tmp_path: Path) -> None:
    _predict(model, unlabelled, tmp_path, "--to-label", "3")
    assert len(read_csv(tmp_path / QUEUE).rows) == 3
    assert "to label" not in _predict(model, unlabelled, tmp_path, "--to-label", "0")
    assert not (tmp_path / QUEUE).exists()
    assert not (tmp_path / PAGE).exists()


def _saved(page: Browser) -> str:
    """The CSV that the page's button would save."""
    return str(page.run("csv()"))


def test_the_page_saves_decisions_that_relabel_takes(
    predicted: tuple[Path, str], unlabelled: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out, _ = predicted
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.open(out / PAGE)
        assert page.complaints == []
        assert page.violations() == []
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
        assert page.run("document.querySelectorAll('.queue img').length") == 31
        assert page.run("document.querySelectorAll('img[src=x]').length") == 0
        assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert "DATA='" in page.run("document.querySelector('.remarks').textContent")
        page.run("document.querySelector('.queue li').focus()")
        page.press("k", 75, "k")
        page.press("r", 82, "r")
        assert page.run("document.getElementById('progress').textContent") == "2 of 31 decided"
        (tmp_path / "saved.csv").write_text(_saved(page))
    folder = Path(shutil.copytree(unlabelled, tmp_path / "photos"))
    assert "2 relabelled, 0 kept, 29 not reviewed" in _relabel(str(tmp_path / "saved.csv"), "--data", str(folder))[1]
    assert len(list_images(folder).records) == 2
