"""The embedding map in a real browser: colours, the picture of a dot, lasso, legend, and the CSV of a selection."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from graft.evaluation.embedding_map import TILE, EmbeddingMap, embedding_map
from graft.reports.embedding_view import HEIGHT, MARGIN, SCRIPT, STYLE, WIDTH, Colouring, embedding_view
from graft.reports.page import script, stylesheet, template_environment
from tests.support.browser import Browser, browser

HOSTILE = '=1+1,"<img src=x onerror=window.ran=1>.jpg'
FIGURE = "document.querySelector('.embedding')"


def made() -> tuple[EmbeddingMap, str]:
    """Return a map of ten dots on the left and ten on the right, and its part of a page."""
    side = np.arange(20) % 2
    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    found = embedding_map(features, np.arange(20), lambda row: np.full((TILE, TILE, 3), 10 * row, np.uint8))
    assert found is not None
    places = np.stack([0.1 + 0.8 * side, np.linspace(0, 1, 20)], axis=1).astype(np.float32)
    found = EmbeddingMap(found.rows, places, found.sheet)
    names = [HOSTILE, *(f"{number}.jpg" for number in range(1, 20))]
    table = pd.DataFrame({"id": [f"id{number}" for number in range(20)], "path": names})
    labels = Colouring("Label", ["left" if one == 0 else "right" for one in side], ("right", "left"))
    splits = Colouring("Split", ["train"] * 15 + ["test"] * 5)
    view = embedding_view(found, table, [labels, splits])
    shown = template_environment("embedding_view").from_string(
        '{% import "embedding.html.j2" as drawn %}{{ drawn.embedding(view) }}'
    )
    return found, str(shown.render(view=view))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("map")
    code = script(SCRIPT)
    page = folder / "map.html"
    page.write_text(
        f'<!doctype html><html lang=en><head><meta charset=utf-8><meta http-equiv=Content-Security-Policy content="'
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{code.csp_source}'\">"
        f"<title>Map</title><style>{stylesheet([STYLE])}</style></head><body><main><h1>Map</h1>{made()[1]}</main>"
        f"<script>{code.text}</script></body></html>",
        encoding="utf-8",
    )
    with browser(folder / "profile") as chromium:
        chromium.open(page)
        yield chromium


def mouse(opened: Browser, kind: str, x: float, y: float) -> None:
    box = opened.run(
        "(({left, top, width}) => [left, top, width])(document.querySelector('svg.map').getBoundingClientRect())"
    )
    scale = box[2] / WIDTH
    where = {"x": box[0] + x * scale, "y": box[1] + y * scale}
    opened.send("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **where)


def coloured(opened: Browser) -> list[str]:
    return list(opened.run("[...document.querySelectorAll('svg.map circle')].map(dot => dot.getAttribute('class'))"))


def said(opened: Browser) -> str:
    return str(opened.run(f"{FIGURE}.querySelector('output').textContent"))


def test_it_is_drawn_in_the_colours_of_the_first_choice_and_of_another(opened: Browser) -> None:
    assert coloured(opened) == ["s2", "s1"] * 10
    choose = "{ const box = document.querySelector('select'); box.selectedIndex = %d; "
    choose += "box.dispatchEvent(new Event('change')); }"
    opened.run(choose % 1)
    assert coloured(opened) == ["s1"] * 15 + ["s2"] * 5
    opened.run(choose % 0)
    assert coloured(opened) == ["s2", "s1"] * 10
    assert opened.violations() == []
    assert opened.complaints == []


def test_pointing_at_a_dot_shows_its_picture_and_facts(opened: Browser) -> None:
    mouse(opened, "mouseMoved", MARGIN + 0.1 * (WIDTH - 2 * MARGIN), MARGIN)
    opened.wait("!document.querySelector('.hint').hidden")
    assert opened.run("document.querySelector('.hint span').textContent") == f"{HOSTILE}: left · train"
    assert opened.run("window.ran") is None
    mouse(opened, "mouseMoved", WIDTH / 2, HEIGHT / 2)
    opened.wait("document.querySelector('.hint').hidden")


def test_a_lasso_lists_what_is_inside_and_saves_it(opened: Browser) -> None:
    corners = [(2, 2), (WIDTH / 2, 2), (WIDTH / 2, HEIGHT - 2), (2, HEIGHT - 2)]
    mouse(opened, "mousePressed", *corners[0])
    for corner in corners[1:]:
        mouse(opened, "mouseMoved", *corner)
    mouse(opened, "mouseReleased", *corners[-1])
    assert said(opened) == "10 of 20 images"
    assert coloured(opened) == ["s2", "off"] * 10
    assert opened.run("document.querySelectorAll('.picked i').length") == 10
    opened.run("window.saved = null; 0")
    opened.run("URL.createObjectURL = blob => { blob.text().then(text => { window.saved = text; }); return '#'; }; 0")
    opened.run(f"{FIGURE}.querySelector('.save').click()")
    opened.wait("window.saved !== null")
    lines = opened.run("window.saved").splitlines()
    assert lines[0] == "id,path,label,split"
    assert lines[1] == 'id0,"\'=1+1,""<img src=x onerror=window.ran=1>.jpg",left,train'
    assert [line.partition(",")[0] for line in lines[1:]] == [f"id{number}" for number in range(0, 20, 2)]
    mouse(opened, "mousePressed", 2, 2)
    mouse(opened, "mouseReleased", 2, 2)
    assert said(opened) == ""


def test_the_legend_selects_by_keyboard(opened: Browser) -> None:
    opened.run("document.querySelectorAll('.legend button')[0].focus()")
    opened.press("Enter", 13, "\r")
    assert said(opened) == "10 of 20 images"
    assert coloured(opened) == ["off", "s1"] * 10
    opened.press("Enter", 13, "\r")
    assert said(opened) == ""


def test_many_values_share_the_last_colour() -> None:
    found, _ = made()
    table = pd.DataFrame({"id": [""] * 20, "path": [""] * 20})
    view = embedding_view(found, table, [Colouring("Label", [f"{number:02d}" for number in range(20)])])
    assert [colour for _, colour, _ in view.legend] == [1, 2, 3, 4, 5, 6, 7, *[8] * 13]
