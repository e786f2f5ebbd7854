"""The data page in a real browser, with hostile names, and the other files in its folder."""

import base64
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import Validation, validate
from graft.reports.data_page import render, write_page
from tests.support.browser import Browser, browser
from tests.support.encoded import encoded, scene

MakeImages = Callable[..., Path]
HOSTILE_LABEL = "<img src=x onerror=document.title='hit'>"
HOSTILE_FILE = "\"'><script>document.title='hit'<&.png"
MARKER = b"original bytes of the file"


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Validation:
    root = tmp_path_factory.mktemp("data")
    for split, numbers in {"train": range(30), "test": range(100, 112)}.items():
        for place, label in enumerate(("bee", "ant", HOSTILE_LABEL)):
            (root / split / label).mkdir(parents=True)
            for number in numbers:
                scene(1000 * place + number).save(root / split / label / f"{number}.png")
    shutil.copy(root / "train/bee/0.png", root / "test/bee/copy.png")
    hostile = root / "train" / HOSTILE_LABEL / HOSTILE_FILE
    hostile.write_bytes(encoded(Image.new("RGB", (60, 60), (9, 9, 9)), "PNG") + MARKER)
    (root / "train/bee/line\nbreak.jpg").write_bytes(b"")
    scene(7).save(root / "train/ant/wrong.gif", "PNG")
    return validate(root, ValidateDataParams(on_leakage="fail"))


@pytest.fixture(scope="module")
def page(validation: Validation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_page(validation, folder)
    return folder


@pytest.fixture(scope="module")
def opened(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as chromium:
        chromium.open(page / "data.html")
        yield chromium


def test_it_runs_and_loads_nothing_from_outside(opened: Browser) -> None:
    assert opened.complaints == []
    assert opened.violations() == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in opened.requests if url.startswith("file:")]) == 1
    assert opened.run("document.title") == opened.run("document.title").replace("hit", "")
    assert opened.run("[...document.scripts].length") == 1
    assert opened.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_the_verdict_comes_first_and_findings_by_severity(opened: Browser, validation: Validation) -> None:
    assert validation.verdict == "fail"
    assert opened.run("document.querySelector('h1').textContent") == "Not ready: 2 problems to fix before training"
    severities = opened.run("[...document.querySelectorAll('.finding')].map(f => f.classList[1])")
    assert severities == [finding.severity for finding in validation.findings]
    assert opened.run("[...document.querySelectorAll('.remarks a')].every(a => document.querySelector(a.hash))")


def test_names_are_shown_as_text(opened: Browser) -> None:
    assert opened.run("document.querySelectorAll('img[src=x]').length") == 0
    assert HOSTILE_LABEL in opened.run("[...document.querySelectorAll('#classes tbody th')].map(t => t.textContent)")
    assert any(HOSTILE_FILE in name for name in opened.run("[...document.images].map(i => i.alt)"))
    assert "line\\nbreak.jpg" in opened.run("document.querySelector('.finding').textContent")


def test_pictures_of_a_leak_are_side_by_side(opened: Browser) -> None:
    names = opened.run(
        "[...document.querySelectorAll('.fail .group')].map(g => [...g.querySelectorAll('img')].map(i => i.alt))"
    )
    assert names == [["test/bee/copy.png", "train/bee/0.png"]]
    splits = opened.run("[...document.querySelectorAll('.fail .group .split')].map(s => s.textContent)")
    assert splits == ["test", "train"]


def test_findings_about_groups_count_them(opened: Browser, validation: Validation) -> None:
    (leak,) = [finding for finding in validation.findings if finding.kind == "leakage"]
    counted = opened.run("Array.from(document.querySelectorAll('.finding .count')).map(n => n.textContent)")
    one = "group" if len(leak.groups) == 1 else "groups"
    assert f"{len(leak.groups)} {one}, {leak.count} images" in counted


def test_original_bytes_are_not_passed_on(page: Path) -> None:
    html = (page / "data.html").read_text()
    for picture in set(re.findall(r"data:image/jpeg;base64,([\w+/=]+)", html)):
        content = base64.b64decode(picture)
        assert content.startswith(b"\xff\xd8")
        assert MARKER not in content


def test_the_table_sorts_by_keyboard(opened: Browser) -> None:
    opened.run("document.querySelectorAll('#classes th button')[3].focus()")
    for kind in ("keyDown", "keyUp"):
        opened.send("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)
    values = opened.run("[...document.querySelectorAll('#classes tbody tr')].map(r => +r.children[3].dataset.value)")
    assert values == sorted(values, reverse=True)
    assert opened.run("document.querySelectorAll('#classes th')[3].getAttribute('aria-sort')") == "descending"


@pytest.mark.parametrize("width", [360, 800, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_window(opened: Browser, width: int, scheme: str) -> None:
    shot = opened.screenshot(width, 900, scheme)
    assert opened.run("document.documentElement.scrollWidth") <= width
    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("L"))
    assert (pixels.mean() > 128) == (scheme == "light")
    assert pixels.std() > 5


def test_the_other_files_in_the_folder(page: Path, validation: Validation) -> None:
    findings = json.loads((page / "findings.json").read_text())
    assert {finding["kind"] for finding in findings} >= {"leakage", "empty_file", "wrong_extension", "exact_duplicate"}
    images = pd.read_parquet(page / "images.parquet")
    assert images["path"].tolist() == validation.inventory.images["path"].tolist()
    assert set(json.loads((page / "suite.json").read_text())) == {"images", "classes", "probes"}


def test_the_page_of_clean_data_says_so(image_folder: MakeImages) -> None:
    html = render(validate(image_folder({"cat": 30, "dog": 30}), ValidateDataParams()), "pets", date(2026, 1, 2))
    assert '<h1><span class="mark" aria-hidden="true"></span>Ready for training</h1>' in html
    assert "<span>pets</span><span>02 January 2026</span>" in html
    assert "Every file is a readable image." in html
    assert "No picture appears twice" in html


def test_no_usable_image_still_makes_a_page(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.png").write_bytes(b"")
    html = render(validate(tmp_path, ValidateDataParams()))
    assert "Not ready" in html


def test_a_few_new_images_show_a_shift(image_folder: MakeImages, tmp_path: Path) -> None:
    folder = image_folder({"cat": 60, "dog": 60})
    write_page(validate(folder, ValidateDataParams()), tmp_path / "page")
    for number in range(30):
        picture = Image.open(folder / f"cat/{number:04d}.png")
        picture.point(lambda value: 255 - value // 3).save(folder / f"cat/new-{number}.png")
    found = validate(folder, ValidateDataParams(reference=str(tmp_path / "page")))
    assert "pictures of now differ from before" in next(f.message for f in found.findings if f.kind == "shift")


def test_a_version_is_compared_with_the_previous_one(image_folder: MakeImages, tmp_path: Path) -> None:
    before = image_folder({"cat": 40, "dog": 40}, name="before")
    write_page(validate(before, ValidateDataParams()), tmp_path / "page")
    now = image_folder({"cat": 40, "dog": 40}, name="now")
    for file in now.rglob("*.png"):
        Image.open(file).point(lambda value: 255 - value // 3).save(file)
    found = validate(now, ValidateDataParams(reference=str(tmp_path / "page")))
    (shift,) = (finding for finding in found.findings if finding.kind != "small_test")
    assert shift.message.startswith("shift: ")
    assert "pictures of now differ from before" in shift.message
