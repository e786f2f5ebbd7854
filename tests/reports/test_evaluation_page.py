"""The evaluation report in a real browser: it renders, loads nothing, runs only its own script, and is complete."""

import base64
import io
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pypdf import PdfReader

from graft.evaluation import gallery
from graft.evaluation.assessment import Sampling, SplitPredictions, assess
from graft.reports import evaluation_plots, model_card
from graft.reports.evaluation_page import Report, render
from graft.reports.registry_decision import with_champion, with_decision
from tests.support.browser import Browser, browser
from tests.support.tasks import of_labels

HOSTILE = '<script>alert("x")</script>&\'.jpg'
CLASSES = ("ant", "bee", "<b>wasp</b>")


def made_report(
    images: int = 120, mistakes: int = 12, classes: tuple[str, str, str] = CLASSES, path: str = HOSTILE
) -> Report:
    generator = np.random.default_rng(0)
    targets = np.arange(images) % 3
    logits = generator.normal(size=(images, 3))
    logits[np.arange(images), targets] += 2.2
    model = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    head = np.roll(model, 1, axis=0) * 0.2 + model * 0.8
    split = SplitPredictions(targets, model, head, np.arange(images))
    found = assess(
        split, split, targets, task=of_labels(*classes), dataset_digest="ab" * 32, sampling=Sampling(bootstrap=100)
    )
    curve = [
        {"tap": f"blocks.{i}", "accuracy": 0.5 + i / 12, "low": 0.45 + i / 12, "high": 0.55 + i / 12} for i in range(5)
    ]
    losses = {"start_loss": 0.3, "held_out_loss": (0.25, 0.27), "train_loss": (0.2, 0.1), "epochs": 2}
    stages = [
        {"name": "blocks.6", "kept": True, "best_epoch": 1, **losses},
        {"name": "blocks.4", "kept": False, "best_epoch": 1, **losses},
    ]
    picture = gallery.data_uri(generator.integers(0, 255, (168, 168, 3), dtype=np.uint8))
    neighbour = gallery.Neighbour("t.jpg", classes[1], picture)
    wrong = [
        gallery.GalleryImage(path, classes[0], classes[2], 0.97, picture, picture, [neighbour]) for _ in range(mistakes)
    ]
    origin = model_card.Origin("resnet18", "layer4", "IMAGENET1K_V1", "cd" * 32, 96, ["layer4"])
    return Report(
        path,
        found,
        {"train": dict.fromkeys(classes, 40), "test": dict.fromkeys(classes, images // 3)},
        evaluation_plots.figures(found, targets, model, curve, stages),
        gallery.Gallery(wrong, wrong[:2]),
        {"Parameters": {"train_head.l2": 0.1}, "Versions": {"torch": "2"}},
        model_card.model_card(found, origin),
        data="insects",
        backbone="resnet18 up to layer4",
        made_on=date(2026, 1, 2),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(made_report()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def opened(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as chromium:
        chromium.open(page)
        yield chromium


def test_it_loads_nothing_and_logs_no_error(opened: Browser, page: Path) -> None:
    outside = [url for url in opened.requests if not url.startswith("data:") and url != page.as_uri()]
    assert outside == []
    assert opened.complaints == []
    assert not re.search(r"(src|href)=.(https?:)?//", page.read_text())


def test_every_section_exists_and_is_linked(opened: Browser) -> None:
    sections = opened.run("[...document.querySelectorAll('main > section')].map(s => s.id)")
    assert sections == [
        "confusion", "mistakes", "numbers", "curves", "calibration", "ranking", "data", "made", "card",
    ]  # fmt: skip
    assert opened.run("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
    assert opened.run("document.querySelectorAll('svg.figure').length") == 8
    folded = opened.run("[...document.querySelectorAll('main > section:has(> details.part)')].map(s => s.id)")
    assert folded == sections[2:], "what a reader looks at first is open, the rest is folded"
    opened.run("document.querySelector('.unfold').click()")
    assert opened.run("[...document.querySelectorAll('details')].every(part => part.open)")
    assert opened.run("[...document.querySelectorAll('svg.figure')].every(s => s.getBoundingClientRect().width > 100)")
    assert opened.run("[...document.images].filter(i => i.closest('main')).every(i => i.naturalWidth > 0 && i.alt)")
    assert opened.violations() == []
    opened.run("document.querySelector('.unfold').click()")
    assert not opened.run("[...document.querySelectorAll('details.part')].some(part => part.open)")


def test_the_first_screen_says_what_it_is_and_what_was_decided(opened: Browser) -> None:
    opened.screenshot(1280, 800)
    first = opened.run("document.querySelector('header.top').innerText")
    assert all(text in first for text in ("insects", "resnet18 up to layer4", "02 January 2026"))
    assert all(text in first for text in ("Right on", "95 % interval", "most frequent class"))
    assert opened.run("document.querySelector('header.top').getBoundingClientRect().bottom") <= 800
    assert opened.run("document.querySelector('#confusion figure').getBoundingClientRect().bottom") <= 1600


def test_a_link_opens_the_part_that_it_leads_to(opened: Browser) -> None:
    opened.run("document.querySelector('nav a[href=\"#made\"]').click()")
    opened.wait("document.querySelector('#made details').open")
    opened.run("location.hash = ''; document.querySelector('#made details').open = false")


def test_text_from_the_data_is_escaped(opened: Browser) -> None:
    assert opened.run("document.querySelectorAll('script').length") == 1
    assert opened.run("[...document.querySelectorAll('b')].every(b => b.textContent !== 'wasp')")
    assert opened.run("document.querySelector('.gallery .file').textContent") == HOSTILE
    assert opened.run("document.title").startswith("insects: Right on")
    assert HOSTILE in opened.run("document.querySelector('.eyebrow').textContent")


def test_an_injected_script_does_not_run(opened: Browser) -> None:
    opened.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    assert opened.run("window.ran") is None
    opened.complaints.clear()


def test_tables_sort_by_mouse_and_keyboard(opened: Browser) -> None:
    table = "[...document.querySelectorAll('#confusion table')][0]"
    column = f"[...{table}.tBodies[0].rows].map(r => Number(r.children[2].dataset.value))"
    button = f"{table}.querySelectorAll('th button')[2]"
    opened.run(f"{button}.click()")
    falling = opened.run(column)
    assert falling == sorted(falling, reverse=True)
    assert opened.run(f"{button}.closest('th').getAttribute('aria-sort')") == "descending"
    opened.run(f"{button}.focus()")
    for kind in ("keyDown", "keyUp"):
        opened.send("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    assert opened.run(column) == falling[::-1]
    names = f"[...{table}.tBodies[0].rows].map(r => r.children[0].textContent)"
    opened.run(f"{table}.querySelectorAll('th button')[0].click()")
    assert opened.run(names) == ["<b>wasp</b>", "ant", "bee"]


def test_light_and_dark_differ_and_the_page_fits_a_phone(opened: Browser) -> None:
    opened.screenshot(1100, 800, "light")
    light = opened.run("getComputedStyle(document.body).backgroundColor")
    opened.screenshot(1100, 800, "dark")
    assert opened.run("getComputedStyle(document.body).backgroundColor") != light
    opened.screenshot(390, 800, "light")
    opened.run("document.querySelector('.unfold').click()")
    assert opened.run("document.documentElement.scrollWidth") <= 390
    cut = "[...document.querySelectorAll('.scroll')].filter(part => part.scrollWidth > part.clientWidth + 1)"
    assert opened.run(f"{cut}.map(part => [part.innerText.slice(0, 20), part.scrollWidth - part.clientWidth])") == []
    # The height of a letter on the screen, which scaling an image changes.
    sizes = "[...document.querySelectorAll('figure:not(.wide) svg.figure')].map(s => s.getBoundingClientRect().width "
    assert min(opened.run(f"{sizes} / s.viewBox.baseVal.width * 12)")) >= 9
    # Without a minimum width a column would break after every letter.
    heads = "[...document.querySelectorAll('tbody th')].filter(cell => cell.textContent.length > 12)"
    assert opened.run(f"{heads}.length") >= 2
    assert opened.run(f"{heads}.every(cell => cell.clientWidth > 60)")


def test_it_prints_its_first_screen_on_a_page_and_only_what_is_open(opened: Browser) -> None:
    opened.run("document.querySelectorAll('details').forEach(part => { part.open = false; })")
    closed = pages_of(opened)
    opened.run("document.querySelector('.unfold').click()")
    assert "Confusion" not in closed[0]
    assert "Right on" in closed[0]
    assert "Compared with alternatives" in closed[0]
    assert len(closed) <= 5
    assert len(pages_of(opened)) > len(closed)


def pages_of(page: Browser) -> list[str]:
    """Return the text of every page that is printed, without blanks at the ends of lines."""
    printed = base64.b64decode(page.send("Page.printToPDF", printBackground=True)["data"])
    return [text.extract_text() for text in PdfReader(io.BytesIO(printed)).pages]


def test_pictures_are_enlarged_and_mistakes_narrowed(opened: Browser) -> None:
    opened.run("document.querySelector('.zoom').click()")
    assert opened.run("document.querySelector('dialog.enlarged').open")
    assert HOSTILE in opened.run("document.querySelector('dialog.enlarged p').textContent")
    opened.press("Escape", 27)
    opened.wait("!document.querySelector('dialog.enlarged').open")
    shown = "[...document.querySelectorAll('#mistakes .gallery li')].filter(item => !item.hidden).length"
    before = opened.run(shown)
    assert before == 14
    least = "{ const box = document.querySelector('#mistakes input'); box.value = %d; "
    least += "box.dispatchEvent(new Event('input')); }"
    opened.run(least % 95)
    assert opened.run(shown) == 14
    assert "14 of 14" in opened.run("document.querySelector('#mistakes output').textContent")
    opened.run(least % 100)
    assert opened.run(shown) == 0
    opened.run(least % 0)
    assert opened.run("[...document.querySelectorAll('#mistakes option')].map(o => o.value)") == [
        "",
        *CLASSES[::2][::-1],
    ]


def test_it_stays_small_for_ten_thousand_images() -> None:
    report = made_report(images=9_999, mistakes=48)
    assert len(render(report).encode()) < 5_000_000


def test_the_promotion_decision_is_added_to_the_page() -> None:
    page = render(made_report())
    refused = with_decision(page, "graft version 3", promoted=False, reasons=["accuracy < 0.9", "slow"])
    assert "Not promoted: graft version 3 remains a challenger, because accuracy &lt; 0.9; slow." in refused
    again = with_decision(page, "graft version 3", promoted=True, reasons=[], run_id="0123abc")
    assert "<code>make reproduce RUN=0123abc</code>" in again
    assert "graft version 3 is now the champion" in with_decision(page, "graft version 3", promoted=True, reasons=[])


def test_a_model_without_mistakes_or_curves_has_a_page_too() -> None:
    report = made_report()
    bare = Report(report.title, report.evaluation, report.counts)
    assert "None on the test images" in render(bare)
    assert 'id="curves"' not in render(bare)


def test_the_comparison_with_the_champion_is_added_as_a_row() -> None:
    report = made_report()
    page = with_champion(render(report), 3, report.evaluation.comparison["head"])
    row = re.search(r'<tr><th scope="row">Champion, version 3</th>.*</tr>', page)[0]
    assert row.count("<td") == 5
    assert '<td class="text">no detectable difference <span class="quiet">detectable: ' in row


def test_a_table_of_many_classes_shows_the_worst_twenty_and_finds_the_others(tmp_path: Path) -> None:
    generator, classes = np.random.default_rng(0), 60
    targets = np.repeat(np.arange(classes), 4)
    model = generator.dirichlet(np.ones(classes), len(targets)) + np.eye(classes)[targets] * 0.2
    predicted = SplitPredictions(
        targets, model / model.sum(axis=1, keepdims=True), np.eye(classes)[targets], np.arange(len(targets))
    )
    labels = [f"species {number:02d}" for number in range(classes)]
    found = assess(
        predicted, predicted, targets, task=of_labels(*labels), dataset_digest="d", sampling=Sampling(bootstrap=100)
    )
    path = tmp_path / "report.html"
    path.write_text(render(Report("t", found, {"test": dict.fromkeys(labels, 4)})), encoding="utf-8")
    assert "Intervals of AUROC and average precision come from 50 of the 60 classes" in path.read_text("utf-8")
    with browser(tmp_path / "profile") as chromium:
        chromium.open(path)
        shown = "[...document.querySelectorAll('#confusion table')[0].tBodies[0].rows].filter(r => !r.hidden)"
        names = f"{shown}.map(r => r.children[0].textContent)"
        assert chromium.run(names) == [row.label for row in found.per_class[:20]]
        last = found.per_class[-1].label
        find = "(() => { const box = document.querySelector('#confusion input.find'); box.value = '%s'; "
        find += "box.dispatchEvent(new Event('input')); })()"
        chromium.run(find % last.upper())
        assert chromium.run(names) == [last]
        chromium.run(find % "")
        chromium.run("document.querySelectorAll('#confusion th button')[0].click()")
        assert chromium.run(names) == sorted(labels)[:20]
        assert chromium.run("document.querySelectorAll('#data input.find').length") == 1
        assert chromium.complaints == []
